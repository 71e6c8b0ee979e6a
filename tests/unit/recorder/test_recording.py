"""Questions to the files of several workers: pages, stories, sums, budgets, merges, faults."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from drakkar_flow.observe.events.tasks import TaskAttempts
from drakkar_flow.recorder.export import exported
from drakkar_flow.recorder.files import Budget
from drakkar_flow.recorder.formats import ExportFormat
from drakkar_flow.recorder.keeper import Retention, keep, sealed_in
from drakkar_flow.recorder.merge import merge
from drakkar_flow.recorder.place import side_of
from drakkar_flow.recorder.recording import Recording
from drakkar_flow.recorder.rows import Cursor
from drakkar_flow.recorder.verify import faults_of
from support.recorder import START_US, WriterScene, attempt, consumed, failed, finished, patient, sealed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three workers, each with two files; partition 0 goes from one to the next. Copy it to change it."""
    root = tmp_path_factory.mktemp("made") / "rec"
    for number in range(3):
        scene = WriterScene(root, f"w-{number}", rotate_s=60)
        scene.clock.advance(number * 10)
        for part in range(2):
            base = number * 1000 + part * 100
            tasks = tuple(attempt(f"t-{base + n}", base + n) for n in range(40))
            scene.turn(consumed(base, base + 99, epoch=number + 1), TaskAttempts(tasks))
            scene.turn(*[failed(f"f-{base + n}", base + n, f"no such file /{n}") for n in range(10)])
            scene.turn(finished(base + 100, 100, epoch=number + 1), wait_s=61)
        scene.close()
    sealed(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "rec"))


def test_a_record_is_found_whoever_had_it(made: Path) -> None:
    with patient(made) as recording:
        for number in range(3):
            story = recording.record("in", 0, number * 1000 + 105)
            assert [span.worker for span in story.spans] == [f"w-{number}"]
            assert [event.worker for event in story.events] == [f"w-{number}"]
            assert [task.worker for task in story.tasks] == [f"w-{number}"]
            assert story.complete


def test_files_that_can_not_have_it_stay_closed(root: Path) -> None:
    for path in root.glob("*/*.sqlite"):
        if "w-1" not in str(path):
            path.write_bytes(b"x" * path.stat().st_size)  # would be a fault if it was opened
    with patient(root) as recording:
        assert recording.record("in", 0, 1005).spans
        assert recording.faulty == {}


@pytest.mark.parametrize("limit", [1, 7, 59, 60, 100])
def test_pages_are_disjoint_and_complete_in_any_size(made: Path, limit: int) -> None:
    with patient(made) as recording:
        rows, cursor = list[tuple[int, str]](), None
        while True:
            page = recording.failures(limit=limit, before=cursor)
            rows += [(row.key, row.file) for row in page.rows]
            assert len(page.rows) <= limit
            cursor = page.following
            if cursor is None:
                break
        assert len(rows) == 60
        assert rows == sorted(set(rows), reverse=True)


def test_a_page_of_a_period_says_what_it_covers(made: Path) -> None:
    with patient(made) as recording:
        page = recording.tasks(limit=1000, from_us=START_US, to_us=START_US + 15_000_000)
        assert {task.worker for task in page.rows} == {"w-0", "w-1"}
        assert len(page.rows) == 80
        assert page.complete
        assert page.covered == (START_US, START_US + 15_000_000)


def test_faults_of_all_workers_are_one(made: Path) -> None:
    with patient(made) as recording:
        (fault,) = recording.faults().rows
        assert (fault.count, fault.workers) == (60, ("w-0", "w-1", "w-2"))
        assert len(recording.events(fault=fault.id).rows) == 60


def test_sums_are_those_of_all_workers_or_of_one(made: Path) -> None:
    with patient(made) as recording:
        (all_of_them,) = [points for name, points in recording.ticks(kinds=["read"], step_s=3600).rows]
        (one,) = [points for name, points in recording.ticks(kinds=["read"], worker="w-1", step_s=3600).rows]
        assert (sum(point.n for point in all_of_them), sum(point.n for point in one)) == (600, 200)


def test_a_query_without_time_left_says_that_it_is_not_complete(made: Path) -> None:
    with Recording(made, budget_s=0.0) as recording:
        page = recording.failures()
        assert (page.rows, page.complete) == ([], False)
        assert page.from_us == max(file.ended_us for file in recording.files())
        assert not recording.record("in", 0, 5).complete
        assert not recording.faults().complete
        assert page.following is not None
    with patient(made) as recording:  # goes on there
        assert len(recording.failures(limit=100, before=page.following).rows) == 60


def test_files_are_seen_that_were_made_after_the_reader(tmp_path: Path) -> None:
    with patient(tmp_path / "rec") as recording:
        assert recording.failures().rows == []
        scene = WriterScene(tmp_path / "rec")
        scene.turn(failed("t", 1))
        assert len(recording.failures().rows) == 1
        scene.close()
        assert len(recording.failures().rows) == 1


def test_a_live_file_that_is_sealed_between_two_reads_stays_readable(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(consumed(0, 9))
    with patient(scene.root) as recording:
        (file,) = recording.files()
        ((number,),), _ = file.rows("SELECT topic_partition FROM spans", (), Budget(60.0))
        scene.close()
        assert file.name(number) == "in:0"


def test_foreign_damaged_and_newer_files_are_named_and_left_out(root: Path) -> None:
    newer = next(root.glob("w-0/*.sqlite"))
    side_of(newer).unlink()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    (root / "w-1" / "damaged.sqlite").write_bytes(b"no database" * 1000)
    foreign = sqlite3.connect(root / "w-2" / "foreign.sqlite")
    foreign.execute("CREATE TABLE t(x)")
    foreign.close()
    with patient(root) as recording:
        assert len(recording.failures().rows) == 50
        assert {path.name: reason for path, reason in recording.faulty.items()} == {
            newer.name: "it has schema version 99; this version of drakkar-flow reads up to 1",
            "damaged.sqlite": "file is not a database",
            "foreign.sqlite": "it is no recording of drakkar-flow",
        }


# --- merge and verify -----------------------------------------------------------------------------


def everything(root: Path) -> list[str]:
    """All rows of a directory."""
    with patient(root) as recording:
        return list(exported(recording.files(), ExportFormat.JSONL))


def test_a_merge_has_every_row_once_and_may_be_repeated(root: Path, tmp_path: Path) -> None:
    whole, target = everything(root), tmp_path / "merged"
    for worker in ("w-2", "w-0", "w-1", "w-0"):
        merge([root / worker], target)
    assert everything(target) == whole
    again = merge([root], target)
    assert (again.copied, len(again.kept), again.faulty) == ([], 6, {})
    assert everything(target) == whole
    merge([target, root], tmp_path / "merged-again")
    assert everything(tmp_path / "merged-again") == whole
    with patient(root, target) as both:  # a copy is the same recording
        assert len(both.failures(limit=1000).rows) == 60


def test_a_snapshot_of_a_live_file_is_replaced_by_the_whole_one(tmp_path: Path) -> None:
    scene, target = WriterScene(tmp_path / "rec"), tmp_path / "merged"
    scene.turn(failed("t-1", 1))
    merge([scene.root], target)
    scene.turn(failed("t-2", 2))
    merge([scene.root], target)
    assert len(everything(target)) == len(everything(scene.root))
    scene.turn(failed("t-3", 3))
    scene.close()
    merge([scene.root], target)
    merge([scene.root], target)
    assert everything(target) == everything(scene.root)
    assert len(list(target.glob("*/*.sqlite"))) == 1


def test_verify_finds_lost_rows_damage_and_wrong_side_files(root: Path) -> None:
    lost, damaged, *_ = sorted(root.glob("*/*.sqlite"))
    assert list(faults_of(lost)) == []
    with sqlite3.connect(lost) as connection:
        connection.execute("DELETE FROM spans")
    connection.close()
    assert next(faults_of(lost)).startswith("in:0: 200 records read by ticks, 0 by spans")
    content = bytearray(damaged.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    damaged.write_bytes(content)
    assert list(faults_of(damaged))
    other = sorted(root.glob("*/*.sqlite"))[2]
    side_of(other).write_bytes(b"no side file")
    assert list(faults_of(other)) == [
        f"{side_of(other).name} is missing or damaged; queries open the recording instead"
    ]


# --- exports --------------------------------------------------------------------------------------


def lines(root: Path, form: ExportFormat, table: str = "") -> list[str]:
    """An export."""
    with patient(root) as recording:
        return list(exported(recording.files(), form, table))


def test_json_lines_have_every_table_with_names_resolved(made: Path) -> None:
    rows = [json.loads(line) for line in lines(made, ExportFormat.JSONL)]
    assert {row["type"] for row in rows} == {"ticks", "spans", "faults", "events", "tasks"}
    (task,) = [row for row in rows if row["type"] == "tasks" and row["id"] == "t-5"]
    assert [task[name] for name in ("topic_partition", "program", "status", "worker")] == [
        "in:0",
        "/bin/jq",
        "completed",
        "w-0",
    ]
    (read,) = [row for row in rows if row["type"] == "ticks" and row["kind"] == "read" and row["worker"] == "w-0"][:1]
    assert (read["name"], read["n"]) == ("in:0", 100)


def test_csv_cells_are_no_formulas(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(TaskAttempts((attempt('=HYPERLINK("http://evil")', 1),)))
    scene.close()
    head, row = lines(scene.root, ExportFormat.CSV)
    assert head.startswith("worker,file,key,topic_partition,offset")
    assert "\"'=HYPERLINK(" in row


def test_a_trace_for_perfetto_is_one_json_document(made: Path) -> None:
    document = json.loads("\n".join(lines(made, ExportFormat.PERFETTO)))
    kinds = [event["ph"] for event in document["traceEvents"]]
    assert (kinds.count("M"), kinds.count("X"), kinds.count("i")) == (3, 240, 60)


def test_otlp_has_a_span_per_attempt(made: Path) -> None:
    requests = [json.loads(line) for line in lines(made, ExportFormat.OTLP)]
    spans = [span for request in requests for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"]]
    assert len({span["spanId"] for span in spans}) == 240
    assert all(len(span["traceId"]) == 32 and int(span["endTimeUnixNano"]) > 0 for span in spans)


def test_a_cursor_is_data(made: Path) -> None:
    """A page may be asked for by another process, later."""
    with patient(made) as recording:
        first = recording.failures(limit=5)
        assert first.following is not None
    key, file = json.loads(json.dumps(first.following))
    cursor: Cursor = (key, file)
    with patient(made) as recording:
        assert len(recording.failures(limit=100, before=cursor).rows) == 55


def test_a_reader_follows_files_that_are_replaced_or_removed(root: Path) -> None:
    """Retention works while a page is open."""
    with patient(root) as recording:
        assert len(recording.tasks(limit=1000).rows) == 240
        total = sum(each.size for each in sealed_in(root))
        keep(root, Retention(total * 3 // 4, 1e9))
        with patient(root) as fresh:
            left = fresh.tasks(limit=1000).rows
        assert len(left) < 240
        assert recording.tasks(limit=1000).rows == left
        shutil.rmtree(root)
        assert recording.tasks().rows == []
