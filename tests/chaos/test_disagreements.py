"""Stores, commits and topics that do not fit together: each row of docs/recovery.md that needs a real broker."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from chaos.drill import Drill
from chaos.group_drill import advance
from drakkar_flow.runtime.recovery.store import read_identity
from support.kafka_io import add_partitions, create_topic, end_offsets
from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

Results = list[tuple[object, ...]]

PROCESSES = pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)], ids=["fixed", "cluster"])


def name(processes: int) -> str:
    """The mode, as the table has it."""
    return "fixed mode" if processes == 1 else f"cluster of {processes}"


def refused(workers: list[Worker], text: str) -> None:
    """Check that a start ends with an error, which the first process tells."""
    codes = [worker.wait(120) for worker in workers]
    assert all(code in (1, 2) for code in codes), codes
    assert text in workers[0].stderr
    assert all("Traceback" not in worker.stderr for worker in workers)


def warned(worker: Worker) -> str:
    """The warnings of a start."""
    return "\n".join(line["what"] for line in worker.lines("recovery_start"))


def delete_records(scene: Scene, before: dict[int, int]) -> None:
    """Let the log begin later, as retention does."""
    admin = _admin(scene)
    asked = admin.delete_records([KafkaPartition(scene.source, at, offset) for at, offset in before.items()])
    for answer in asked.values():
        answer.result(60)


def made_anew(scene: Scene) -> None:
    """Delete the topic and create one of the same name."""
    admin = _admin(scene)
    admin.delete_topics([scene.source])[scene.source].result(60)
    until(lambda: scene.source not in admin.list_topics(timeout=30).topics, 60, "the topic to go")
    create_topic(admin, scene.source, scene.partitions)


def _admin(scene: Scene) -> AdminClient:
    return AdminClient({"bootstrap.servers": scene.bootstrap})


def _lose(drill: Drill, _backup: Path) -> None:
    shutil.rmtree(drill.store)


def _lose_files(drill: Drill, _backup: Path) -> None:
    for path in drill.store.glob("*.sqlite3*"):
        path.unlink()


def _lose_one_file(drill: Drill, _backup: Path) -> None:
    next(drill.store.glob("*.sqlite3")).unlink()


def _damage(drill: Drill, _backup: Path) -> None:
    path = max(drill.store.glob("*.sqlite3"), key=lambda path: path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def _make_foreign(drill: Drill, _backup: Path) -> None:
    path = drill.store / "identity.json"
    path.write_text(path.read_text().replace('"counting"', '"billing"'))


def _upgrade(drill: Drill, _backup: Path) -> None:
    path = drill.store / "identity.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))


@PROCESSES
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (_lose, "the store has no row: the state is lost"),
        (_lose_files, "are lost, and its state"),
        (_lose_one_file, "restore it from a backup"),
        (_damage, "restore it from a backup"),
        (_make_foreign, "'billing' in the store"),
        (_upgrade, "a store of format 9; this version reads up to 1"),
    ],
    ids=["lost", "files-lost", "a-file-lost", "damaged", "foreign", "of-a-later-version"],
)
def test_a_store_in_disorder_is_refused_and_its_backup_goes_on(
    scene: Scene, processes: int, fault: Callable[[Drill, Path], None], text: str
) -> None:
    """The start says what is wrong; with the backup restored nothing is lost, and each record counts once."""
    drill = Drill(scene, 300)
    drill.finish(drill.start(processes))
    backup = scene.directory / "backup"
    shutil.copytree(drill.store, backup)
    drill.write(300)
    drill.finish(drill.start(processes))
    fault(drill, backup)
    refused(drill.start(processes), text)
    refused(drill.start(processes), text)  # the first refusal has changed nothing
    shutil.rmtree(drill.store, ignore_errors=True)
    shutil.copytree(backup, drill.store)
    drill.forget()
    drill.write(300)
    workers = drill.start(processes)
    drill.finish(workers)
    assert "the store is older than the committed offset" in warned(workers[0])
    assert "offsets are read again" in warned(workers[0])
    drill.finished("", "")
    assert drill.repeated == 300


def test_files_of_different_ages_are_refused_or_exact(scene: Scene) -> None:
    """A copy that was interrupted: rows of different epochs are valid together, if none is missing."""
    drill = Drill(scene, 300)
    drill.finish(drill.start())
    backup = scene.directory / "backup"
    shutil.copytree(drill.store, backup)
    drill.write(300)
    drill.finish(drill.start())
    path = next(drill.store.glob("*.sqlite3"))
    shutil.copy(backup / path.name, path)
    drill.forget()
    drill.write(300)
    (worker,) = drill.start()
    until(lambda: worker.exit_code is not None or worker.lines("partitions_assigned"), 120, "a start")
    if worker.exit_code is None:
        drill.finish([worker])
        drill.finished("", "")
    else:
        assert "of different ages" in worker.stderr


@PROCESSES
def test_a_store_that_is_lost_while_the_flow_runs_is_lost_at_the_next_start(scene: Scene, processes: int) -> None:
    """Open files outlive their names; on_lost earliest computes the state again, and repeats every delivery."""
    drill = Drill(scene, 300)
    workers = drill.start(processes)
    until_committed(scene, workers)
    shutil.rmtree(drill.store)
    drill.write(300)
    ended = _stopped(workers)
    assert all(code in (0, 1) for code in ended), ended
    drill.forget()
    refused(drill.start(processes), "the state is lost")
    shutil.rmtree(drill.store)
    drill.recovery["on_lost"] = "earliest"
    before = len(scene.delivered())
    workers = drill.start(processes)
    workers[0].until(lambda: len(scene.delivered()) >= before + drill.records, "it delivered all again", 180)
    drill.finish(workers)
    drill.finished("", "")


@PROCESSES
def test_records_that_retention_deletes_while_the_flow_is_down_are_counted(
    scene: Scene, results: Results, processes: int
) -> None:
    """State stays, and the records that are left count once."""
    drill = Drill(scene, 400)
    drill.finish(drill.start(processes))
    drill.write(400)
    ends = end_offsets(scene.bootstrap, scene.source)
    positions = {at[1]: row.offset for at, row in drill.rows().items()}
    begin = {at: (positions[at] + end) // 2 for at, end in ends.items()}
    delete_records(scene, begin)
    drill.deleted(begin)
    workers = drill.start(processes)
    drill.finish(workers)
    gone = sum(begin[at] - positions[at] for at in begin)
    told = warned(workers[0])
    assert sum(int(line.rsplit(": ", 1)[1].split()[0]) for line in told.splitlines()) == gone
    assert "offsets are deleted" in told
    assert drill.repeated == 0
    results.append(drill.finished(f"Retention, {name(processes)}, down", f"{gone} unread records are deleted"))


@PROCESSES
def test_records_that_retention_deletes_while_the_flow_runs_are_passed(scene: Scene, processes: int) -> None:
    """A worker that stood still finds the log further on: what is left counts once, and the flow goes on."""
    drill = Drill(scene, 400)
    workers = drill.start(processes, start_timeout_s=60)
    for worker in workers:
        worker.until_running()
    scene.until_finished(120)
    for worker in workers:
        worker.send(signal.SIGSTOP)
    drill.write(400)
    ends = end_offsets(scene.bootstrap, scene.source)
    delete_records(scene, ends)
    drill.deleted(ends)
    for worker in workers:
        worker.send(signal.SIGCONT)
    drill.write(400)
    drill.finish(workers)
    drill.finished("", "")
    assert drill.repeated == 0


@PROCESSES
@pytest.mark.parametrize("runs", [True, False], ids=["while-it-runs", "while-it-is-down"])
def test_partitions_that_are_added_are_read_from_their_beginning(
    scene: Scene, results: Results, processes: int, *, runs: bool
) -> None:
    """Their records count in their own partitions."""
    drill = Drill(scene, kafka={"metadata_refresh_s": 1.0})
    with drill.feeding():
        workers = drill.start(processes)
        advance(scene)
        if not runs:
            drill.stop(workers)
        add_partitions(_admin(scene), scene.source, 7)
        scene.partitions = 7
        if not runs:
            workers = drill.start(processes)
        advance(scene)
    drill.finish(workers)
    assert {at[1] for at in drill.rows()} == set(range(7))
    assert drill.repeated == 0
    when = "while it runs" if runs else "while it is down"
    results.append(drill.finished(f"Partitions, {name(processes)}, {when}", "4 partitions become 7"))


@PROCESSES
def test_a_topic_that_is_made_anew_needs_a_word_and_begins_with_empty_state(scene: Scene, processes: int) -> None:
    """Refused at first, because the state is that of other records."""
    drill = Drill(scene, 300)
    drill.finish(drill.start(processes))
    made_anew(scene)
    drill.made_anew()
    drill.write(500)
    refused(drill.start(processes), "was deleted and created again; position and state belong to the old one")
    drill.recovery["on_incompatible"] = "reset"
    workers = drill.start(processes)
    drill.finish(workers)
    assert "was created again; reads from its beginning 0 with empty state" in warned(workers[0])


@PROCESSES
def test_a_log_that_lost_its_end_goes_on_there(scene: Scene, processes: int) -> None:
    """As after an unclean election: the id is the same, the end lies before the position; state stays."""
    drill = Drill(scene, 300)
    drill.finish(drill.start(processes))
    before = drill.totals()
    made_anew(scene)
    drill.made_anew()
    drill.write(100)
    identity = drill.store / "identity.json"
    found = read_identity(drill.store)
    assert found is not None
    admin = _admin(scene)
    (description,) = admin.describe_topics(TopicCollection([scene.source])).values()
    new_id = str(description.result(60).topic_id)
    identity.write_text(identity.read_text().replace(found.topics[scene.source].id, new_id))
    workers = drill.start(processes)
    for worker in workers:
        worker.until_running()
    assert "before the stored position" in warned(workers[0])
    assert "continues at its end" in warned(workers[0])
    assert _stopped(workers) == [0] * processes
    assert drill.totals() == before


def until_committed(scene: Scene, workers: list[Worker]) -> None:
    """Wait until the flow has committed everything."""
    for worker in workers:
        worker.until_running()
    scene.until_finished(120)


def _stopped(workers: list[Worker]) -> list[int]:
    with suppress(ProcessLookupError):
        workers[0].send(signal.SIGTERM)
    return [worker.wait(120) for worker in workers]
