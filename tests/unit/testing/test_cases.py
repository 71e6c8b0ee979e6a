"""YAML cases: what passes, what fails and how that is told, and what is wrong with a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel

from drakkar_flow.cli.main import main
from drakkar_flow.testing.cases import Case, CaseFile, Expectation, RuleCase, SinkCase, StepCase

ROOT = Path(__file__).parents[3]

FLOW = """
from drakkar_flow import ErrorAction, ExecutorTask, Handler, KafkaPayload, StreamFlow

class Lengths(Handler[dict, dict]):
    seen = 0

    async def arrange(self, messages, pending):
        return [
            ExecutorTask(task_id=m.label, source_offsets=[m.offset], args=["-c", m.payload["name"]])
            for m in messages
        ]

    async def on_task_complete(self, result):
        self.seen += 1
        return KafkaPayload(data={"name": result.task.args[1], "said": result.stdout, "seen": self.seen}, key="k")

    async def on_error(self, task, error):
        return ErrorAction.RETRY if error.exit_code == 75 else ErrorAction.DLQ

flow = Lengths()
strict = StreamFlow("strict").decode(int, on_error="fail").route()

def facts(payload, record):
    return [record.key and record.key.decode(), record.value.decode()]

echo = StreamFlow("echo").map(facts, with_record=True).route()

def count(state, word):
    return {"n": (state or {"n": 0})["n"] + 1}, None

counted = StreamFlow("counted").decode(str).stateful(count, key=lambda word: int(word), state=dict).route()
"""


@pytest.fixture
def cases(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Writes a flow and its cases, runs them by the command, and gives exit code and output."""
    (tmp_path / "lengths.py").write_text(FLOW)

    def run(text: str, capsys: pytest.CaptureFixture[str], *options: str, flow: str = "flow") -> tuple[int, str]:
        file = tmp_path / "lengths.test.yaml"
        file.write_text(f"flow: lengths.py:{flow}\ncases:\n{text}")
        with pytest.raises(SystemExit) as caught:
            main(["test", str(file), *options])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), (out + err).replace(f"{tmp_path}/", "")

    return run


GOOD = """
  - name: a name is counted
    input: [{json: {name: abc}}]
    executor: [{args: ["-c", "*"], stdout: "3"}]
    expect:
      deliveries: {kafka-out: [{name: abc, said: "3", seen: 1}]}
      committed: {0: 1}
"""


def test_a_case_that_passes_says_ok(cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0."""
    code, told = cases(GOOD, capsys)
    assert code == 0
    assert told.startswith("lengths.test.yaml\n  ok    a name is counted\n1 passed, 0 failed in ")


def test_each_case_has_a_flow_of_its_own(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What a handler keeps does not reach the next case."""
    assert cases(GOOD + GOOD, capsys)[0] == 0


def test_a_case_that_fails_tells_the_line_and_the_difference(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is expected with a minus, what came with a plus; exit code 1."""
    code, told = cases(GOOD + GOOD.replace('said: "3"', 'said: "4"').replace("committed: {0: 1}", ""), capsys)
    assert code == 1
    assert told.splitlines()[2:6] == [
        "  FAIL  a name is counted (lengths.test.yaml:11)",
        "        kafka-out: - expected, + actual",
        '            - {"name": "abc", "said": "4", "seen": 1}',
        '            + {"name": "abc", "said": "3", "seen": 1}',
    ]
    assert told.splitlines()[6].startswith("1 passed, 1 failed in ")


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("deliveries: {kafka-out: {count: 2}}", None),
        ("deliveries: {kafka-out: {count: 3}}", "kafka-out: 2 payloads, expected 3"),
        ("deliveries: {kafka-out: {data: [{name: b}, {name: a}], ordered: false, match: subset}}", None),
        ("deliveries: {kafka-out: {data: [{name: b}, {name: c}], ordered: false, match: subset}}", '- {"name": "c"}'),
        ("deliveries: {kafka-out: {data: [{name: a}, {name: b}]}}", "kafka-out: - expected"),
        ("deliveries: {kafka-out: {data: [{name: '[a]', seen: '[0-9]'}, {said: '.*'}], ordered: false, match: pattern}}", None),  # noqa: E501
        ("deliveries: {kafka-out: {data: [{name: '[ab]'}, {name: '[xy]'}], match: pattern}}", '- {"name": "[xy]"}'),
        ("deliveries: {kafka-out: {payloads: [{key: k, data: {name: a}}, {data: {name: b}}]}}", None),
        ("deliveries: {kafka-out: {payloads: [{key: x}, {}]}}", '- {"key": "x"}'),
        ("deliveries: {}", "kafka-out: - expected, + actual"),
        ("deliveries: {sqlite-out: []}", "sqlite-out: no such sink; there are: kafka-out"),
        ("dead_letters: 1", None),
        ("dead_letters: 0", 'dead letters (0 expected): - expected'),
        ("dead_letters: 2", 'dead letters (2 expected): - expected'),
        ("dead_letters: [{kind: task, error: exit code 9}]", None),
        ("dead_letters: [{kind: decode}]", '- {"kind": "decode"}'),
        ("committed: {0: 3}", None),
        ("committed: {0: 2}", '-   "0": 2'),
        ("events: {TaskRetried: 1}", None),
        ("events: {TaskRetried: 2}", "event TaskRetried: emitted 1 times, expected 2"),
        ("failure: gone", "the flow did not fail"),
    ],
)  # fmt: skip
def test_every_expectation_is_compared(
    expect: str, difference: str | None, cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each passes when it is met and is told when it is not; those not named are not looked at."""
    letters = "" if "dead_letters" in expect else "\n      dead_letters: 1"
    text = f"""
  - name: three
    input: [{{json: {{name: a}}}}, {{json: {{name: b}}}}, {{json: {{name: c}}}}]
    executor:
      - {{args: ["-c", a], attempts: [{{exit_code: 75}}, {{stdout: "1"}}]}}
      - {{args: ["-c", b]}}
      - {{exit_code: 9}}
    config: {{executor: {{window_size: 1, max_executors: 1}}}}
    expect:
      {expect}{letters}
"""
    if "ordered" not in expect and "data: [{name: a}" not in expect and "payloads" not in expect:
        code, told = cases(text, capsys)
    else:
        code, told = cases(text.replace("exit_code: 75", "delay_s: 0"), capsys)
    if difference is None:
        assert (code, "FAIL" in told) == (0, False), told
    else:
        assert code == 1
        assert difference in told


def test_a_program_nobody_thought_of_fails_the_case(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """With its command line."""
    code, told = cases(GOOD.replace('["-c", "*"]', '["-l"]'), capsys)
    assert code == 1
    assert "no script for task input:0:0:  -c abc" in told


def test_a_flow_that_fails_is_expected_or_told(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`failure` is a part of the reason."""
    text = "  - {name: junk, input: [junk], expect: {failure: EXPECTED}}\n"
    assert cases(text.replace("EXPECTED", "input:0:0"), capsys, flow="strict")[0] == 0
    assert "the flow failed: " in cases(text.replace("EXPECTED", "another reason"), capsys, flow="strict")[1]
    assert "the flow failed: " in cases(text.replace(", expect: {failure: EXPECTED}", ""), capsys, flow="strict")[1]


@pytest.mark.usefixtures("eager_restarts")
def test_expected_state_is_compared_by_step_and_key(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys that are numbers and their text are the same in YAML; a crash takes back what was not committed."""
    code, out = cases(
        """
  - name: right
    input: ["7", crash: true, "7", "8"]
    expect: {state: {stateful-count: {7: {n: 2}, "8": {n: 1}}}}
  - name: wrong
    input: ["7"]
    expect: {state: {stateful-count: {7: {n: 3}}}}
""",
        capsys,
        flow="counted",
    )
    assert code == 1
    assert "state: - expected, + actual" in out
    assert '-       "n": 3' in out
    assert '+       "n": 1' in out
    assert "1 passed" in out


def test_a_crash_in_the_input_repeats_what_was_not_committed(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """And what comes after the last one is done once."""
    text = """
  - name: crashes
    input: [a, crash: true, b, crash: true, c]
    expect: {deliveries: {kafka-out: [[null, a], [null, a], [null, b], [null, a], [null, b], [null, c]]}, committed: {0: 3}}
"""  # noqa: E501
    code, told = cases(text, capsys, flow="echo")
    assert (code, "1 passed" in told) == (0, True), told


def test_time_passes_between_messages(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first window has lingered when the third message comes."""
    text = """
  - name: two windows
    config: {executor: {window_size: 10, window_linger_s: 5}}
    input: [{json: {name: a}}, {json: {name: b}}, {advance_s: 6}, {json: {name: c}}]
    executor: [{args: ["..."]}]
    expect: {events: {WindowFinished: 2}}
"""
    assert cases(text, capsys)[0] == 0
    assert "emitted 1 times" in cases(text.replace("{advance_s: 6}, ", ""), capsys)[1]


def test_a_sink_fails_as_the_case_says(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """More often than it is tried again: a dead letter. A sink that is none is told."""
    text = """
  - name: down
    config: {executor: {window_size: 1}}
    input: [{text: a}, {text: b}]
    sinks: {kafka-out: [no route, no route, no route, null]}
    expect: {dead_letters: [{kind: sink, label: "input:0:0", error: no route}], deliveries: {kafka-out: {count: 1}}}
"""
    step = text.replace("{text: a}, {text: b}", "{text: a}, {advance_s: 60}, {text: b}")
    code, told = cases(step, capsys, flow="echo")
    assert code == 0, told
    assert (
        "unknown sink kafka-in; there are: kafka-out"
        in cases(text.replace("{kafka-out: [no", "{kafka-in: [no"), capsys)[1]
    )


def test_a_message_has_its_value_in_any_form(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Text, JSON, base64, a file, or none; with key and partition."""
    (tmp_path / "body.txt").write_text("from a file")
    text = """
  - name: forms
    input:
      - bare
      - {text: "5"}
      - {json: [1, null]}
      - {json: null}
      - {base64: aGV4}
      - {file: body.txt}
      - {tombstone: true, key: k}
    expect:
      deliveries:
        kafka-out: [[null, bare], [null, "5"], [null, "[1,null]"], [null, "null"], [null, hex], [null, from a file], [k, ""]]
"""  # noqa: E501
    code, told = cases(text, capsys, flow="echo")
    assert code == 0, told


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("{name: x, inputs: []}", "lengths.test.yaml:3:15 cases[0].inputs: unknown key; did you mean 'input'?"),
        ("{input: []}", "cases[0].name: is missing"),
        ("{name: x, expect: {commited: {}}}", "lengths.test.yaml:3:24 cases[0].expect.commited: unknown key"),
        (
            "{name: x, input: [{text: a, json: 1}]}",
            "a step of the input has exactly one of text, json, base64",
        ),
        ("{name: x, input: [{key: k}]}", "this one has none"),
        ("{name: x, input: [{advance_s: 1}], real: true}", "with `real: true` time passes by itself"),
        ("{name: x, expect: {deliveries: {a: {data: ['('], match: pattern}}}}", "'(' is not a regular expression"),
        ("{name: x, partitions: 0}", "cases[0].partitions: must be at least 1, not 0"),
        ("{name: x, executor: [{kind: burnt}]}", "cases[0].executor[0].kind: must be one of"),
        ("[", "is not YAML"),
    ],
)
def test_a_file_that_is_wrong_is_told_with_its_places(
    case: str, problem: str, cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """File, line and column, key, and what to do; exit code 2."""
    code, told = cases(f"  - {case}\n", capsys)
    assert code == 2
    assert problem in told


def test_events_must_exist(cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no event would never be told."""
    code, told = cases("  - {name: x, expect: {events: {TaskRetryed: 0}}}\n", capsys)
    assert code == 2
    assert "unknown event 'TaskRetryed'; did you mean 'TaskRetried'" in told


def test_only_the_cases_asked_for_are_run(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """By a part of the name, in any case; none at all is a mistake of the command line."""
    both = GOOD + GOOD.replace("a name is counted", "another one")
    assert "1 passed" in cases(both, capsys, "-k", "NAME is")[1]
    code, told = cases(both, capsys, "-k", "nonsense")
    assert (code, "no case has 'nonsense' in its name" in told) == (2, True)


def test_the_results_are_written_for_ci(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """JUnit XML with a failure's place and difference, whatever characters that holds."""
    file = tmp_path / "junit.xml"
    cases(GOOD + GOOD.replace("name: abc, said", '"na\\x01me": abc, said'), capsys, "--junit", str(file))
    root = ET.fromstring(file.read_text())
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    (failure,) = root.iter("failure")
    assert "lengths.test.yaml:11" in str(failure.text)
    assert "- expected" in str(failure.text)


def test_the_processes_settings_do_not_reach_the_cases(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DRAKKAR_ variable of the developer's shell changes no result."""
    monkeypatch.setenv("DRAKKAR_SINKS__KAFKA__OTHER__TOPIC", "t")
    monkeypatch.setenv("DRAKKAR_CONFIG", "/nowhere.yaml")
    assert cases(GOOD, capsys)[0] == 0


def test_the_settings_beside_the_flow_hold_for_its_cases(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Found as `run` finds them."""
    (tmp_path / "drakkar.yaml").write_text("sinks: {kafka: {counts: {topic: t}}}\n")
    code, told = cases(GOOD.replace("kafka-out", "kafka-counts"), capsys)
    assert code == 0, told


def test_the_cases_of_the_main_job_and_the_examples_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Those in the repository, found by folder."""
    with pytest.raises(SystemExit) as caught:
        main(["test", str(ROOT / "flows"), str(ROOT / "examples")])
    out = capsys.readouterr().out
    assert caught.value.code in (0, None), out
    assert "examples/02_handler.test.yaml" in out


def test_letters_that_were_expected_and_did_not_come_are_told(
    cases: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when there are none at all to show."""
    text = """
  - name: one
    input: [{json: {name: a}}]
    executor: [{stdout: "1"}]
    expect: {dead_letters: 1}
"""
    code, told = cases(text, capsys)
    assert code == 1
    assert "dead letters (1 expected): none arrived" in told


@pytest.mark.parametrize("kind", [CaseFile, Case, StepCase, RuleCase, SinkCase, Expectation])
def test_every_field_of_the_cases_is_on_the_page(kind: type[BaseModel]) -> None:
    """In the section about them, as code."""
    section = (ROOT / "docs" / "testing.md").read_text().partition("## Cases in YAML")[2]
    names = [field.alias or name for name, field in kind.model_fields.items()]
    assert [name for name in names if f"`{name}`" not in section] == []
