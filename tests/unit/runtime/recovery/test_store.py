"""Recovery stores: made on first use, of one flow and one process; everything wrong is one clear error."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.errors import StartupError
from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity
from drakkar_flow.runtime.recovery.directory import directory_of
from drakkar_flow.runtime.recovery.reading import StoreRows
from drakkar_flow.runtime.recovery.store import IDENTITY, open_store, read_identity
from drakkar_flow.storage.directory import network_filesystem
from support.stores import identity, run_dataflow, start_dataflow


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that a dataflow has used; copy it."""
    directory = tmp_path_factory.mktemp("store") / "job"
    opened(directory)
    run_dataflow(directory, ["in:0:5,in:1:7", "in:0:9"])
    return directory


@pytest.fixture
def store(used: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(used, tmp_path / "job"))


def opened(directory: Path, given: StoreIdentity | None = None, **settings: Any) -> tuple[StoreRows, list[str]]:
    """Open and close a store; gives its rows and notices."""
    with open_store(directory, given or identity(), RecoveryStoreConfig(**settings)) as store:
        store.accept()
        return store.found, store.notices


def refusal(directory: Path, given: StoreIdentity | None = None, **settings: Any) -> str:
    """The error of opening a store: one line."""
    with pytest.raises(StartupError) as caught:
        opened(directory, given, **settings)
    (problem,) = caught.value.problems
    assert "\n" not in str(problem)
    assert problem.remedy
    return str(problem)


# --- first use, names ---------------------------------------------------------------------------


def test_a_store_is_made_on_first_use(tmp_path: Path) -> None:
    """With the partitions of the settings, for the flow."""
    found, notices = opened(tmp_path / "a" / "b", partitions=3)
    assert (found.partitions, found.rows, notices) == (3, {}, [])
    assert read_identity(tmp_path / "a" / "b") == identity()


def test_rows_come_back(store: Path) -> None:
    """The newest of each partition."""
    with open_store(store, identity(), RecoveryStoreConfig(partitions=9)) as again:
        assert not again.first_start
        assert {at: each.row.offset for at, each in again.found.rows.items()} == {("in", 0): 9, ("in", 1): 7}
        assert str(again.config.db_dir) == str(store)


def test_an_error_of_the_flow_is_not_an_error_of_the_store(tmp_path: Path) -> None:
    """An OSError inside of the context passes through; the lock is released."""
    with pytest.raises(PermissionError), open_store(tmp_path / "s", identity(), RecoveryStoreConfig()):
        raise PermissionError("the flow's")
    opened(tmp_path / "s")


@pytest.mark.parametrize("flow", ["a/b", "..", ".hidden", "\0", "x" * 1000, "Zählung %", "-rf", "."])
def test_any_name_of_a_flow_is_a_directory_in_recovery(flow: str, tmp_path: Path) -> None:
    """Below the working directory, and another for another name."""
    directory = directory_of(None, flow)
    assert directory.parent == Path("recovery")
    assert directory.name not in (".", "..")
    (tmp_path / directory.name).mkdir()
    assert directory != directory_of(None, f"{flow}x")


def test_an_interrupted_creation_is_made_again(tmp_path: Path) -> None:
    """Killed between the files and the identity."""
    opened(tmp_path)
    (tmp_path / IDENTITY).unlink()
    (tmp_path / "part-2.sqlite3").write_bytes(b"")
    (tmp_path / "part-3.sqlite3").unlink()
    assert opened(tmp_path)[0].partitions == 4


def test_an_empty_store_of_bytewax_is_adopted(tmp_path: Path) -> None:
    """Made by `python -m bytewax.recovery`."""
    subprocess.run([sys.executable, "-m", "bytewax.recovery", tmp_path, "2"], check=True)
    assert opened(tmp_path)[0].partitions == 2


# --- in use -------------------------------------------------------------------------------------


def test_a_store_in_use_names_the_process(store: Path) -> None:
    """The lock is that of the process, and ends with it."""
    with open_store(store, identity(), RecoveryStoreConfig()):
        assert f"is used by process {os.getpid()}; stop that process" in refusal(store)
    opened(store)


def test_a_killed_holder_leaves_no_lock(store: Path) -> None:
    """The file stays, the lock does not."""
    script = (
        "import sys, time, pathlib\nsys.path.insert(0, sys.argv[2])\n"
        "from support.stores import identity\n"
        "from drakkar_flow.runtime.recovery.store import open_store\n"
        "from drakkar_flow.config.sections.recovery import RecoveryStoreConfig\n"
        "with open_store(pathlib.Path(sys.argv[1]), identity(), RecoveryStoreConfig()):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    tests = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", script, store, tests], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert f"process {holder.pid}" in refusal(store)
        holder.kill()
    opened(store)


# --- identity -----------------------------------------------------------------------------------

FOREIGN = [
    ({"flow": "other"}, "another flow 'job' in the store, 'other' now"),
    ({"group": "other"}, "another consumer group 'workers' in the store, 'other' now"),
    ({"cluster_id": "cluster-2"}, "another Kafka cluster 'cluster-1' in the store, 'cluster-2' now"),
    ({"schema": {"count": "str"}}, "another state of step count 'int' in the store, 'str' now"),
    ({"schema": {}}, "another state of step count 'int' in the store, 'none' now"),
]


@pytest.mark.parametrize(("given", "text"), FOREIGN)
def test_a_foreign_store_is_refused_with_the_difference_and_the_fix(
    store: Path, given: dict[str, Any], text: str
) -> None:
    """Nothing in it is changed."""
    before = (store / IDENTITY).read_bytes()
    error = refusal(store, identity(**given))
    assert text in error
    assert "recovery reset" in error
    assert "on_incompatible" in error
    assert (store / IDENTITY).read_bytes() == before


@pytest.mark.parametrize(("given", "text"), FOREIGN)
def test_on_incompatible_reset_moves_it_aside(store: Path, given: dict[str, Any], text: str) -> None:
    """It is not deleted, and says so."""
    found, notices = opened(store, identity(**given), on_incompatible="reset")
    assert found.rows == {}
    assert text in notices[0]
    assert read_identity(store.with_name("job.old-1")) == identity()


@pytest.mark.parametrize("given", [{"schema": {"count": "int", "more": "str"}}, {"cluster_id": ""}])
def test_new_steps_and_an_unknown_cluster_are_compatible(store: Path, given: dict[str, Any]) -> None:
    """Their state is empty; the next start knows them."""
    opened(store, identity(**given))
    assert read_identity(store) == identity(**given)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{", "damaged"),
        (b'{"format": 2, "slots": 64}', "a store of format 2; this version reads up to 1"),
        (b'{"format": 1, "slots": 32}', "a store of 32 slots; this version has 64"),
    ],
)
def test_an_identity_that_cant_be_read_is_refused(store: Path, text: bytes, error: str) -> None:
    """Also with on_incompatible: reset, for it may be a later version's."""
    (store / IDENTITY).write_bytes(text)
    assert error in refusal(store)
    assert error in refusal(store, on_incompatible="reset")


def test_rows_of_a_topic_that_was_created_again_are_outdated(store: Path) -> None:
    """Before the start that accepts it and after, until they are written again."""
    again = identity(topics={"in": StoredTopic("topic-2"), "more": StoredTopic("topic-3")})
    with open_store(store, again, RecoveryStoreConfig()) as opened_again:
        row = opened_again.found.rows["in", 0]
        assert not opened_again.is_same_topic("in", row.epoch)
        assert opened_again.is_same_topic("more", 0)
        opened_again.accept()
        assert not opened_again.is_same_topic("in", row.epoch)
    run_dataflow(store, ["in:0:3"])
    with open_store(store, again, RecoveryStoreConfig()) as opened_again:
        rows = opened_again.found.rows
        assert opened_again.is_same_topic("in", rows["in", 0].epoch)
        assert not opened_again.is_same_topic("in", rows["in", 1].epoch)


# --- lost and damaged ---------------------------------------------------------------------------


def lose(directory: Path) -> None:
    """Remove the partition files."""
    for path in directory.glob("part-*"):
        path.unlink()


def test_a_lost_store_with_state_is_refused(store: Path) -> None:
    """The fix names both choices."""
    lose(store)
    error = refusal(store)
    assert "are lost, and its state" in error
    assert "on_lost: commits" in error


@pytest.mark.parametrize(
    ("given", "settings"), [({"schema": {}}, {}), ({}, {"on_lost": "commits"}), ({}, {"on_lost": "earliest"})]
)
def test_a_lost_store_is_made_again_where_it_may_be(
    tmp_path: Path, given: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Without state, or because the settings allow it; a line reports it."""
    opened(tmp_path, identity(**given))
    lose(tmp_path)
    found, notices = opened(tmp_path, identity(**given), **settings)
    assert (found.partitions, found.rows) == (4, {})
    assert "are lost; new ones are used" in notices[0]


def test_a_store_made_again_has_forgotten_the_epochs_of_its_topics(store: Path) -> None:
    """Epochs begin again with new files."""
    again = identity(topics={"in": StoredTopic("topic-2")})
    opened(store, again)
    lose(store)
    opened(store, again, on_lost="commits")
    run_dataflow(store, ["in:0:3"])
    with open_store(store, again, RecoveryStoreConfig()) as opened_again:
        assert opened_again.is_same_topic("in", opened_again.found.rows["in", 0].epoch)


def truncate(directory: Path) -> None:
    path = directory / "part-1.sqlite3"
    path.write_bytes(path.read_bytes()[:6000])


def overwrite(directory: Path) -> None:
    path = directory / "part-1.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def no_database(directory: Path) -> None:
    (directory / "part-1.sqlite3").write_bytes(b"these are no pages of SQLite" * 100)


def empty(directory: Path) -> None:
    (directory / "part-1.sqlite3").write_bytes(b"")


def another_database(directory: Path) -> None:
    with sqlite3.connect(directory / "mine.sqlite3") as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()


def execute(directory: Path, name: str, statement: str, *values: Any) -> None:
    with sqlite3.connect(directory / name) as connection:
        assert connection.execute(statement, values).rowcount != 0
    connection.close()


def later_bytewax(directory: Path) -> None:
    execute(directory, "part-1.sqlite3", "PRAGMA user_version = 6")


def missing_file(directory: Path) -> None:
    (directory / "part-2.sqlite3").unlink()


def second_file(directory: Path) -> None:
    shutil.copy(directory / "part-1.sqlite3", directory / "part-1b.sqlite3")


def other_count(directory: Path) -> None:
    execute(directory, "part-1.sqlite3", "UPDATE parts SET part_count = 7")


def old_file(directory: Path) -> None:
    execute(directory, "part-1.sqlite3", "INSERT OR REPLACE INTO commits (part_index, commit_epoch) VALUES (1, 900)")


def pickled_class(directory: Path) -> None:
    for path in directory.glob("*.sqlite3"):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE snaps SET ser_change = ?", (b"cos\nsystem\n(S'touch owned'\ntR.",))
        connection.close()


def pickled_text(directory: Path) -> None:
    for path in directory.glob("*.sqlite3"):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE snaps SET ser_change = ?", (b"S'text'\n.",))
        connection.close()


def no_identity(directory: Path) -> None:
    (directory / IDENTITY).unlink()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncate, "part-1.sqlite3"),
        (overwrite, "part-1.sqlite3"),
        (no_database, "part-1.sqlite3 can't be read: file is not a database"),
        (empty, "part-1.sqlite3 is no partition file of Bytewax"),
        (another_database, "mine.sqlite3 is no partition file of Bytewax"),
        (later_bytewax, "part-1.sqlite3 was written by a later Bytewax (schema 6, known is 5)"),
        (missing_file, "lacks part-2.sqlite3 of 4 partition files"),
        (second_file, "holds part-1.sqlite3 and part-1b.sqlite3, both for partition 1"),
        (other_count, "holds files of stores with 4 and 7 partitions"),
        (old_file, "holds files of different ages: part-1.sqlite3"),
        (pickled_class, "a row holds os.system instead of bytes"),
        (pickled_text, "a row holds str instead of bytes"),
        (no_identity, "was used by a dataflow, but identity.json is missing"),
    ],
)
def test_a_damaged_store_is_one_clear_error(store: Path, damage: Callable[[Path], None], text: str) -> None:
    """Instead of a panic of Bytewax's; the files stay as they are."""
    damage(store)
    files = sorted(path.name for path in store.glob("*.sqlite3"))
    error = refusal(store)
    assert text in error
    assert "restore it from a backup" in error
    assert sorted(path.name for path in store.glob("*.sqlite3")) == files
    assert not Path("owned").exists()


# --- the disk -----------------------------------------------------------------------------------


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Wherever in its path."""
    (tmp_path / "file").write_text("")
    assert "can't be written" in refusal(tmp_path / "file" / "store")
    assert "can't be written" in refusal(tmp_path / "file")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 512 KiB."""
    yield from mounted(tmp_path / "disk", "512k")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 16 MiB."""
    yield from mounted(tmp_path / "volume", "16m")


def mounted(point: Path, size: str) -> Iterator[Path]:
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def test_a_full_disk_is_a_clear_error(small_disk: Path) -> None:
    """Before Bytewax could panic."""
    error = refusal(small_disk / "store")
    assert "can't be written: No space left on device; free some space" in error


def test_a_read_only_disk_is_a_clear_error(small_disk: Path) -> None:
    """A directory that the user can't write is the same."""
    (small_disk / "store").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    error = refusal(small_disk / "store")
    assert "Read-only file system; set a directory on a local disk that this user can write" in error


def test_a_store_on_a_mount_point_is_moved_into_a_subdirectory(volume: Path) -> None:
    """Such as a volume of Kubernetes: it can't be renamed."""
    opened(volume)
    assert "flow 'job' in the store" in opened(volume, identity(flow="other"), on_incompatible="reset")[1][0]
    opened(volume, on_incompatible="reset")
    assert read_identity(volume) == identity()
    assert [read_identity(volume / name) for name in ("old-1", "old-2")] == [identity(), identity(flow="other")]
    assert (volume / "old-1" / "part-3.sqlite3").exists()


MOUNTS = """\
22 1 8:1 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:50 / {0}/share rw - nfs4 server:/export rw
31 30 8:2 / {0}/share/local\\040disk rw shared:2 master:3 - xfs /dev/vdb rw
32 22 0:51 / {0}/fuse rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", ""),
        ("share", "nfs4"),
        ("share/a/b", "nfs4"),
        ("share/local disk/a", ""),
        ("sharexy", ""),
        ("fuse/a", "fuse.sshfs"),
    ],
)
def test_a_network_filesystem_is_recognised_by_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    """The directory need not exist yet; without /proc nothing is known."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp_path))
    assert network_filesystem(tmp_path / path, mounts) == kind
    assert network_filesystem(tmp_path / path, tmp_path / "missing") == ""


def test_a_store_is_read_while_a_dataflow_writes_it(store: Path) -> None:
    """As often as one likes; a kill leaves a store that opens."""
    from drakkar_flow.runtime.recovery.reading import read_rows

    process = start_dataflow(store, ["in:0:50"])
    try:
        epochs = [read_rows(store, "job").progress.epoch for _ in range(20)]
        assert epochs == sorted(epochs)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert opened(store)[0].rows["in", 0].row.offset == 50
