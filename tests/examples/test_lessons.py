"""The lessons do what they teach, on a real Kafka and as the programs they are."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from sqlite3 import connect

import pytest

from drakkar_flow import ErrorAction, ExecutorError, ExecutorTask
from drakkar_flow.model.task import ErrorKind
from support.flow_run import run_flow
from support.kafka_io import Kafka, MakeTopic, committed, produce, read_all
from support.names import unique

ROOT = Path(__file__).parents[2]
_LIMIT_S = 240.0  # for a lesson, while all run at once
LESSONS = sorted(path.stem for path in (ROOT / "examples").glob("0*.py"))
PRINTED = {
    "01_map": ['readings-kelvin: {"place":"roof","kelvin":294.65}', "readings_dlq: a burst pipe"],
    "02_handler": ['texts-sorted: {"lines":["8","9","10"],', '"lines":["a","b"],', '"lines":["apple","fig","pear"]'],
    "03_fan_out": ['documents-measures: {"name":"ada","lines":2,"words":4,"bytes":13}'],
    "04_async_lookup": ['orders-named: {"number":0,"customer":"Ada"}', 'orders_dlq: {"number": 3, "customer": 4}'],
    "05_library": ["finished 4, committed 4, exit code 0"],
    "06_warm_children": ["Python, one process per task ", "Python, long-lived ", "cat, long-lived ", " tasks/s\n"],
    "07_state": [
        'session: {"user": "anna", "from": 0.0, "visits": [1, 2, 3]}\n',
        "visits by user: {'anna': 4, 'otto': 2}\n",
        "open sessions: {'anna 90000..91800': [4], 'otto 90100..91900': [2]}\n",
    ],
    "08_killed": ["3,000 of 3,000 visits counted", "  anna: 504 visits, 504 counted\n"],
}


pytestmark = pytest.mark.xdist_group("lessons")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All lessons, started as programs at the same time, each with the broker inside itself."""
    where = tmp_path_factory.mktemp("lessons")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m"]
    started = {
        lesson: subprocess.Popen(
            [*command, f"examples.{lesson}"],
            cwd=where,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for lesson in LESSONS
    }
    yield started
    for program in started.values():
        program.kill()
        program.communicate()


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_runs_by_itself_and_ends(lesson: str, programs: dict[str, subprocess.Popen[str]]) -> None:
    """`python -m examples.NN_name` needs no Kafka, prints what came out and ends with 0."""
    out, err = programs[lesson].communicate(timeout=_LIMIT_S)
    assert programs[lesson].returncode == 0, err
    for line in PRINTED[lesson]:
        assert line in out


def test_lesson_1_keeps_the_real_readings(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Readings are converted, the filtered one is finished, the unreadable one is a dead letter."""
    lesson = import_module("examples.01_map")
    outcome = run_flow(kafka, make_topic, lesson.flow, lesson.INPUTS, lesson.CONFIG)
    assert outcome.values == [{"place": "cellar", "kelvin": 284.15}, {"place": "roof", "kelvin": 294.65}]
    assert outcome.dead == ["a burst pipe"]
    assert (outcome.exit_code, outcome.committed) == (0, 4)


def test_lesson_2_replaces_a_task_that_failed(kafka: Kafka, make_topic: MakeTopic) -> None:
    """A text with an unknown option is sorted by the replacement; an empty one needs no task."""
    lesson = import_module("examples.02_handler")
    outcome = run_flow(kafka, make_topic, lesson.flow, lesson.INPUTS, lesson.CONFIG)
    assert [value["lines"] for value in outcome.values] == [["8", "9", "10"], ["a", "b"], ["apple", "fig", "pear"]]
    assert [value["task"].endswith("-plain") for value in outcome.values] == [False, True, False]
    assert (outcome.exit_code, outcome.committed, outcome.dead) == (0, 4, [])


@pytest.mark.parametrize(
    ("kind", "action"),
    [("timeout", ErrorAction.RETRY), ("signal", ErrorAction.RETRY), ("launch_failure", ErrorAction.DLQ)],
)
def test_lesson_2_decides_by_the_kind_of_failure(kind: ErrorKind, action: ErrorAction) -> None:
    """What was killed is run again; without the program the record is a dead letter."""
    task = ExecutorTask(task_id="t", source_offsets=[1])
    error = ExecutorError(task=task, kind=kind)
    assert asyncio.run(import_module("examples.02_handler").flow.on_error(task, error)) == action


def test_lesson_3_answers_once_per_record_in_three_places(kafka: Kafka, make_topic: MakeTopic, tmp_path: Path) -> None:
    """The three tasks of a record become one answer, in Kafka, in SQLite and in a file."""
    lesson = import_module("examples.03_fan_out")
    sinks = {
        "kafka": {"measures": {}},
        "sqlite": {"measures": {"path": str(tmp_path / "measures.db")}},
        "filesystem": {"measures": {"base_path": str(tmp_path)}},
    }
    outcome = run_flow(kafka, make_topic, lesson.flow, lesson.INPUTS, {**lesson.CONFIG, "sinks": sinks})
    assert outcome.values == [
        {"name": "ada", "lines": 2, "words": 4, "bytes": 13},
        {"name": "art", "lines": 0, "words": 0, "bytes": 0},
        {"name": "bob", "lines": 1, "words": 2, "bytes": 9},
    ]
    database = connect(tmp_path / "measures.db")
    assert database.execute("SELECT name, words FROM measures ORDER BY name").fetchall() == [
        ("ada", 4),
        ("art", 0),
        ("bob", 2),
    ]
    database.close()
    in_files = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(in_files, key=repr) == outcome.values
    assert outcome.statistics.totals.tasks_completed == 9
    assert (outcome.exit_code, outcome.committed) == (0, 3)


def test_lesson_4_looks_up_what_it_can(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Known customers get their name, orders of unknown ones become dead letters, all are committed."""
    lesson = import_module("examples.04_async_lookup")
    outcome = run_flow(kafka, make_topic, lesson.flow, lesson.INPUTS, lesson.CONFIG)
    assert [value["number"] for value in outcome.values] == [0, 1, 2, 4, 5, 6]
    assert len(outcome.dead) == 2
    assert (outcome.exit_code, outcome.committed) == (0, 8)


def test_lesson_5_runs_inside_a_program(kafka: Kafka, make_topic: MakeTopic) -> None:
    """The service runs the flow in a thread, sees its statistics and ends it in order."""
    lesson = import_module("examples.05_library")
    source, output, letters, group = make_topic(), make_topic(), make_topic(), unique("group")
    produce(kafka.bootstrap, source, lesson.INPUTS)
    config = {
        "kafka": {"brokers": kafka.bootstrap, "source_topic": source, "consumer_group": group},
        "sinks": {"kafka": {"loud": {"topic": output}}},
        "dlq": {"topic": letters},
        "metrics": {"enabled": False},
    }
    assert lesson.Service(config).run(4) == 0
    delivered = read_all(kafka.bootstrap, output)
    assert sorted(message.value() or b"" for message in delivered) == [
        b"MUCH",
        b"SAY",
        b"SO",
        b"TO",
    ]
    assert sum(committed(kafka.bootstrap, group, source).values()) == 4


def test_lesson_7_numbers_visits_and_collects_sessions(kafka: Kafka, make_topic: MakeTopic, tmp_path: Path) -> None:
    """With a recovery store; the sessions of the second day stay open."""
    lesson = import_module("examples.07_state")
    config = {**lesson.CONFIG, "runtime": {"recovery": {"dir": str(tmp_path / "store")}}}
    visits = lesson.encoded([*lesson.MONDAY, *lesson.TUESDAY])
    outcome = run_flow(kafka, partial(make_topic, 1), lesson.flow, visits, config)
    assert outcome.values == [
        {"user": "anna", "from": 0.0, "visits": [1, 2, 3]},
        {"user": "otto", "from": 30.0, "visits": [1]},
    ]
    assert (outcome.exit_code, outcome.committed, outcome.dead) == (0, 6, [])
