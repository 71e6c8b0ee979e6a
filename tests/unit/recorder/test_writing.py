"""What a worker records, in which files, and what it gives up in trouble: a writer with a clock to move."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.lifecycle import StateChanged
from drakkar_flow.observe.events.recorder import RecordingFaulty
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.source import PartitionsRevoked, RecordsTraced
from drakkar_flow.observe.events.tasks import TaskAttempts, TaskRetried
from drakkar_flow.recorder.files import connect
from drakkar_flow.recorder.fold.captured import outputs_of
from drakkar_flow.recorder.fold.keys import us_of
from drakkar_flow.recorder.keeper import Retention, keep, sealed_in
from drakkar_flow.recorder.place import RECORDER
from drakkar_flow.recorder.verify import faults_of
from drakkar_flow.storage.directory import DirectoryRefused, WorkerDirectory
from support.recorder import START_US, WriterScene, attempt, consumed, failed, finished, patient, sealed
from support.until import until
from support.worker import ROOT


def test_a_record_is_located_and_timed(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(consumed(100, 149))
    scene.turn(consumed(150, 199), finished(160, 60))
    scene.turn(finished(200, 40))
    scene.close()
    with patient(scene.root) as recording:
        story = recording.record("in", 0, 155)
        (span,) = story.spans
        assert (span.worker, span.first, span.last, span.epoch) == ("w-1", 150, 199, 1)
        assert span.read_from_us <= START_US + 250_000 <= span.read_to_us
        assert span.passed_us == START_US + 250_000
        assert recording.record("in", 0, 170).spans[0].passed_us == START_US + 500_000
        assert recording.record("in", 0, 200).spans == []
        assert recording.record("in", 7, 155).spans == []


def test_the_counts_of_ticks_are_those_of_the_events(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    for number in range(40):
        scene.turn(consumed(number * 10, number * 10 + 9), finished(number * 10 + 10, 10))
    scene.close()
    with patient(scene.root) as recording:
        counts = {name: sum(point.n for point in points) for name, points in recording.ticks().rows}
        assert counts[("read", "in:0")] == counts[("finished", "done")] == counts[("latency", "record")] == 400
        by_ten = dict(recording.ticks(step_s=10).rows)[("read", "in:0")]
        assert [(point.n, point.size) for point in by_ten] == [(400, 4000)]
    assert list(faults_of(sealed(scene.root)[0])) == []


def test_a_failed_task_has_its_event_its_fault_its_streams_and_its_run(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    failure = failed("t-1", 7, stderr="jq: no such file /a/17", stdin="{}")
    runs = TaskAttempts((attempt("t-1", 7, status="failed"), attempt("t-2", 8)))
    scene.turn(failure, outputs_of(failure.error), runs)
    scene.turn(failed("t-9", 9, stderr="jq: no such file /b/99"))
    scene.close()
    with patient(scene.root) as recording:
        (fault,) = recording.faults().rows
        assert (fault.kind, fault.stage, fault.what, fault.count) == ("task", "jq", "exit 2", 2)
        story = recording.record("in", 0, 7)
        assert [event.detail["stderr"] for event in story.events] == ["jq: no such file /a/17"]
        assert [(task.task_id, task.status, task.exit_code) for task in story.tasks] == [("t-1", "failed", 2)]
        assert {output.stream: output.text for output in recording.outputs("t-1").rows} == {
            "stdin": "{}",
            "stderr": "jq: no such file /a/17",
        }
        assert [event.fault for event in recording.failures().rows] == [fault.id] * 2
        assert [task.status for task in recording.task("t-2").rows] == ["completed"]


def test_a_record_that_is_not_the_first_of_an_event_has_it_in_its_story(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    about = EventContext((("in", 0, 5), ("in", 0, 6)), (), 2)
    scene.turn(consumed(0, 9), RecordsFailed("business", "map", ("in", 0), 2, "ValueError: no", "in:0:5", about=about))
    scene.close()
    with patient(scene.root) as recording:
        assert [event.kind for event in recording.record("in", 0, 6).events] == ["records_failed"]
        assert recording.record("in", 0, 7).events == []


def test_traced_records_have_their_steps_and_all_their_tasks(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", trace_every=0)
    scene.turn(consumed(0, 9), RecordsTraced(("in", 0), (4,)))
    many = tuple(attempt(f"t-{number}", 4 if number == 20_000 else number + 10) for number in range(20_001))
    scene.turn(TaskAttempts(many))
    scene.turn(finished(10, 10))
    scene.close()
    with patient(scene.root) as recording:
        story = recording.record("in", 0, 4)
        assert [trace.step for trace in story.traces] == ["read", "task", "finished"]
        assert story.traces[-1].took_us == 500_000
        assert [task.task_id for task in story.tasks] == ["t-20000"]
        assert len(recording.tasks(limit=50_000).rows) < 10_000
        assert sum(task.weight for task in recording.tasks(limit=50_000).rows) == pytest.approx(20_001, rel=0.1)


def test_a_record_whose_partition_was_revoked_is_not_traced_to_the_end_of_another_assignment(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", trace_every=0)
    scene.turn(consumed(0, 9), RecordsTraced(("in", 0), (4,)))
    scene.turn(PartitionsRevoked((("in", 0),), 0))
    scene.turn(consumed(10, 19, epoch=2), finished(20, 10, epoch=2))
    scene.close()
    with patient(scene.root) as recording:
        assert [trace.step for trace in recording.record("in", 0, 4).traces] == ["read"]
        assert [event.kind for event in recording.events().rows] == ["partitions_revoked"]


def test_a_record_that_is_traced_twice_over_has_its_steps_once(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", trace_every=1)
    scene.turn(consumed(4, 4), RecordsTraced(("in", 0), (4,)), finished(5, 1))
    scene.close()
    with patient(scene.root) as recording:
        assert [trace.step for trace in recording.record("in", 0, 4).traces] == ["read", "finished"]


def test_a_flood_of_one_fault_is_counted_and_thinned_out(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(*[failed(f"t-{number}", number, stderr=f"no such file /a/{number}") for number in range(20_000)])
    scene.turn(StateChanged("draining"))
    scene.close()
    with patient(scene.root) as recording:
        (fault,) = recording.faults().rows
        assert fault.count == 20_000
        assert len(recording.failures(limit=1000).rows) == 30
        assert [event.detail["state"] for event in recording.events(kinds=["state_changed"]).rows] == ["draining"]
    assert not scene.noted.dropped


def test_life_is_recorded_whatever_else_floods(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(*[TaskRetried(f"t-{number}", 1) for number in range(5_000)], StateChanged("draining"))
    scene.close()
    with patient(scene.root) as recording:
        assert len(recording.events(kinds=["task_retried"], limit=5_000).rows) == 1_000
        assert len(recording.events(kinds=["state_changed"]).rows) == 1


# --- files ----------------------------------------------------------------------------------------


def test_a_new_file_is_begun_after_its_time_and_rows_of_both_are_found(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", rotate_s=60)
    scene.turn(consumed(0, 9), failed("t-0", 3), wait_s=61)
    scene.turn(consumed(10, 19))
    scene.turn(failed("t-1", 13))
    scene.close()
    assert len(sealed(scene.root)) == 2
    with patient(scene.root) as recording:
        assert {file.side.ended for file in recording.files()} == {"rotated", "clean"}
        assert [event.offset for event in recording.failures().rows] == [13, 3]
        assert recording.record("in", 0, 3).spans
        assert recording.record("in", 0, 13).spans
        (fault,) = recording.faults().rows
        assert fault.count == 2


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_set_wall_clock_begins_a_file_and_keys_stay_ordered(tmp_path: Path, by_s: float) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.clock.advance(30)
    scene.turn(failed("t-0", 0))
    scene.clock.set_wall(by_s)
    scene.turn(failed("t-1", 1))
    scene.turn(failed("t-2", 2))
    scene.close()
    files = sealed(scene.root)
    assert len(files) == 2
    for path in files:
        assert list(faults_of(path)) == []
    with patient(scene.root) as recording:
        rows = recording.events(limit=100).rows
        assert len({(row.file, row.key) for row in rows}) == len(rows)
        (note,) = recording.events(kinds=["clock_set"]).rows
        assert note.detail["by_s"] == pytest.approx(by_s, abs=1)
        (last,) = [row for row in rows if row.task_id == "t-2"]
        assert last.at_us == pytest.approx(START_US + (30.5 + by_s) * 1e6, abs=1e6)


def test_old_ticks_are_folded_and_their_sums_stay(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", rotate_s=1e6, gauge_s=1e6)
    for number in range(100):
        scene.turn(consumed(number, number), wait_s=1)
    scene.clock.advance(700)
    scene.turn(consumed(100, 100))
    scene.close()
    with patient(scene.root) as recording:
        points = dict(recording.ticks().rows)[("read", "in:0")]
        assert sum(point.n for point in points) == 101
        assert {point.span for point in points} == {10, 1}
        assert len(points) < 15


def test_a_removed_file_is_noticed_and_a_new_one_begun(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(consumed(0, 9), wait_s=2)
    shutil.rmtree(scene.place.path)
    scene.place.path.mkdir(mode=0o700)
    scene.turn(consumed(10, 19), wait_s=2)
    scene.turn(consumed(20, 29))
    scene.close()
    assert scene.noted.states == ["off", "full"]
    with patient(scene.root) as recording:
        assert recording.record("in", 0, 25).spans


def test_files_belong_to_this_user_alone(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.turn(consumed(0, 9))
    live = next(scene.root.glob("*/*.live.sqlite"))
    assert [path.stat().st_mode & 0o777 for path in (scene.root, scene.place.path, live)] == [0o700, 0o700, 0o600]
    scene.close()
    assert {path.stat().st_mode & 0o777 for path in scene.place.path.iterdir()} == {0o600}


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec").chmod(0o777)
    with pytest.raises(DirectoryRefused, match=r"others may write to it: chmod go-w it, or set debug\.db_dir"):
        WorkerDirectory.take(tmp_path / "rec", "w", RECORDER)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec").write_text("")
    with pytest.raises(DirectoryRefused, match=r"rec: it is no directory"):
        WorkerDirectory.take(tmp_path / "rec", "w", RECORDER)


def test_the_default_is_a_state_directory() -> None:
    assert RECORDER.default({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/drakkar-flow/recorder")
    assert RECORDER.default({"HOME": "/h"}) == Path("/h/.local/state/drakkar-flow/recorder")
    with pytest.raises(DirectoryRefused, match=r"set debug\.db_dir"):
        RECORDER.default({})


def test_two_workers_of_one_name_do_not_share_a_directory(tmp_path: Path) -> None:
    one, other = (
        WorkerDirectory.take(tmp_path / "rec", "w", RECORDER),
        WorkerDirectory.take(tmp_path / "rec", "w", RECORDER),
    )
    assert (one.path.name, other.path.name) == ("w", f"w+{os.getpid()}")
    one.release()
    other.release()


@pytest.mark.parametrize("name", ["../../etc", "..", ".", "a/b", "ü" * 200, "a\nb", ""])
def test_a_hostile_worker_name_stays_in_the_directory(tmp_path: Path, name: str) -> None:
    place = WorkerDirectory.take(tmp_path / "rec", name, RECORDER)
    place.release()
    assert place.path.parent == tmp_path / "rec"


def test_files_of_ended_processes_are_sealed_by_the_next_start(tmp_path: Path) -> None:
    for name in ("w-1", "w-2"):
        scene = WriterScene(tmp_path / "before" / name, name)
        scene.turn(consumed(0, 9))
        scene.crash(tmp_path / "image" / name)
        scene.close()
    for name in ("w-1", "w-2"):
        (tmp_path / "rec").mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(tmp_path / "image" / name / name, tmp_path / "rec" / name)
    again = WriterScene(tmp_path / "rec")
    again.clock.advance(60)
    again.turn(consumed(10, 19))
    again.close()
    sealed(again.root)
    with patient(again.root) as recording:
        assert sorted((file.side.worker, file.side.ended) for file in recording.files()) == [
            ("w-1", "clean"),
            ("w-1", "unclean"),
            ("w-2", "unclean"),
        ]
        assert {span.worker for span in recording.record("in", 0, 5).spans} == {"w-1", "w-2"}


def test_a_file_that_a_reader_holds_open_is_sealed_later(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", rotate_s=60)
    scene.turn(consumed(0, 9))
    (path,) = scene.place.path.glob("*.live.sqlite")
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM spans").fetchall()
        scene.clock.advance(60)
        scene.turn(consumed(10, 19))
        until(lambda: any(isinstance(event, RecordingFaulty) for event in scene.noted.events), what="the refused seal")
    scene.clock.advance(600)
    scene.turn()
    until(lambda: not path.exists(), what="the next attempt")
    scene.close()
    with patient(scene.root) as recording:
        assert [file.side.ended for file in recording.files()] == ["clean", "rotated", "rotated"]


def test_a_foreign_or_damaged_file_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "rec" / "w-1"
    place.mkdir(parents=True, mode=0o700)
    (tmp_path / "rec").chmod(0o700)
    foreign = sqlite3.connect(place / "a.live.sqlite")
    foreign.execute("CREATE TABLE t(x)")
    foreign.close()
    (place / "b.live.sqlite").write_bytes(b"no database at all" * 1000)
    scene = WriterScene(tmp_path / "rec")
    scene.turn(consumed(0, 9))
    scene.close()
    reasons = [event.reason for event in scene.noted.events if hasattr(event, "path")]
    assert reasons == ["ValueError: it is no recording of drakkar-flow", "DatabaseError: file is not a database"]
    assert scene.noted.states == []
    assert (place / "b.damaged").exists()


# --- retention ------------------------------------------------------------------------------------


def filled(root: Path, files: int) -> None:
    """Several sealed files, each an hour after the one before."""
    scene = WriterScene(root, rotate_s=60)
    for number in range(files):
        tasks = tuple(attempt(f"t-{number}-{place}", place) for place in range(5000))
        scene.turn(consumed(number * 1000, number * 1000 + 999), TaskAttempts(tasks), failed(f"f-{number}", number))
        scene.turn(finished(number * 1000 + 1000, 1000), wait_s=3600)
    scene.close()
    sealed(root)


def test_details_of_the_oldest_files_go_first_and_every_record_stays_located(tmp_path: Path) -> None:
    root = tmp_path / "rec"
    filled(root, 6)
    total = sum(each.size for each in sealed_in(root))
    keep(root, Retention(total * 2 // 3, 1e9))
    found = sealed_in(root)
    assert sum(each.size for each in found) <= total * 2 // 3
    assert [each.stripped for each in found] == sorted([each.stripped for each in found], reverse=True)
    assert found[0].stripped
    assert not found[-1].stripped
    with patient(root) as recording:
        assert all(recording.record("in", 0, number * 1000 + 5).spans for number in range(6))
        assert recording.task("t-0-5").rows == []
        assert recording.task("t-5-5").rows
        assert sum(fault.count for fault in recording.faults().rows) == 6
        assert sum(point.n for point in dict(recording.ticks().rows)[("read", "in:0")]) == 6000
    for each in found:
        assert list(faults_of(each.path)) == []


def test_the_bound_holds_even_if_only_the_newest_file_fits(tmp_path: Path) -> None:
    root = tmp_path / "rec"
    filled(root, 4)
    newest = sealed_in(root)[-1]
    keep(root, Retention(newest.size, 1e9))
    assert sum(each.size for each in sealed_in(root)) <= newest.size


def test_files_beyond_the_age_are_removed_with_their_side_files(tmp_path: Path) -> None:
    root = tmp_path / "rec"
    filled(root, 3)
    for each in sealed_in(root)[:2]:
        os.utime(each.path, (1.0, 1.0))
    keep(root, Retention(1 << 40, 3600.0))
    assert len(sealed_in(root)) == 1
    assert len(list(root.glob("*/*.side"))) == 1


# --- a full disk ----------------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from drakkar_flow.observe.events.lifecycle import StateChanged
from drakkar_flow.observe.events.tasks import TaskAttempts
from support.recorder import WriterScene, attempt, consumed

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
scene = WriterScene(Path(sys.argv[1]))
scene.turn(consumed(0, 9))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for turn in range(40):
    tasks = tuple(attempt(f"t-{turn}-{number}") for number in range(500))
    scene.turn(consumed(10 + turn * 10, 19 + turn * 10), TaskAttempts(tasks))
print(scene.noted.states, scene.noted.dropped["tasks"] > 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
scene.clock.advance(31)
scene.turn()
scene.turn(consumed(1000, 1009))
print(scene.noted.states[-1])
scene.close()
"""


def test_a_full_disk_costs_details_then_the_recording_and_never_the_worker(tmp_path: Path) -> None:
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, script, tmp_path / "rec", *paths], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['without_details', 'off'] True\nfull\n"
    with patient(tmp_path / "rec") as recording:
        assert recording.record("in", 0, 5).spans  # written before
        assert recording.record("in", 0, 1005).spans  # and after there was space again


# --- texts ----------------------------------------------------------------------------------------


def test_secrets_are_masked_before_they_are_written(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", redact=lambda text: text.replace("hunter2", "********"))
    failure = failed("t-hunter2", 7, stderr="login with hunter2 failed", stdin="password hunter2")
    scene.turn(failure, outputs_of(failure.error), TaskAttempts((attempt("t-hunter2", 7, status="failed"),)))
    about = EventContext((("in", 0, 7),), ("t-hunter2",), 1)
    scene.turn(RecordsFailed("business", "map", ("in", 0), 1, "ValueError: hunter2", "hunter2", about=about))
    scene.close()
    assert b"hunter2" not in sealed(scene.root)[0].read_bytes()
    with patient(scene.root) as recording:
        events = recording.record("in", 0, 7).events
        assert [event.detail["error"] for event in events if event.kind == "records_failed"] == ["ValueError: ********"]


def test_only_ids_that_the_library_made_are_not_redacted(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec", redact=lambda _: "********")
    ids = ("in:0:7", "in:0:7-2", "in:0:secret", "in-secret", "secret")
    scene.turn(TaskAttempts(tuple(attempt(each, 7) for each in ids)))
    scene.close()
    with patient(scene.root) as recording:
        assert [task.task_id for task in recording.tasks().rows][::-1] == ["in:0:7", "in:0:7-2", *["********"] * 3]


HOSTILE = "\x00\x1b[2J\u202e\ud800'; DROP TABLE tasks; --\n\r" + "ü" * 70_000


def test_hostile_texts_are_recorded_and_break_nothing(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    failure = failed(HOSTILE, 7, stderr=HOSTILE, stdin=HOSTILE)
    about = EventContext(((HOSTILE, 0, 7),), (HOSTILE,), 1)
    scene.turn(
        failure,
        outputs_of(failure.error),
        TaskAttempts((attempt(HOSTILE, 7),)),
        RecordsFailed("business", HOSTILE, (HOSTILE, 0), 1, HOSTILE, HOSTILE, about=about),
        StateChanged("running", HOSTILE, HOSTILE, HOSTILE),
        consumed(0, 9, topic=HOSTILE[:100]),
    )
    scene.turn(consumed(0, 9))
    scene.close()
    assert scene.noted.states == []
    (path,) = sealed(scene.root)
    assert list(faults_of(path)) == []
    with patient(scene.root) as recording:
        assert len(recording.events().rows) == 3
        assert len(recording.faults().rows) == 2
        assert len(recording.tasks().rows) == 1
        assert recording.record("in", 0, 5).spans


def test_times_of_rows_are_those_of_the_events(tmp_path: Path) -> None:
    scene = WriterScene(tmp_path / "rec")
    scene.clock.advance(5)
    scene.turn(failed("t", 1))
    scene.close()
    with patient(scene.root) as recording:
        (row,) = recording.failures().rows
        assert us_of(row.key) == row.at_us == START_US + 5_000_000
