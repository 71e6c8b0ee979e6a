"""Exchange of entries between workers: three of them against a model, and peers in trouble."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.cache.change_files import ChangeFile, change_files
from drakkar_flow.cache.file import CacheFile, open_file
from drakkar_flow.cache.peers import PeerSync
from drakkar_flow.cache.settings import PeerSettings
from drakkar_flow.kernel.cache_entries import CacheEntry
from drakkar_flow.kernel.hybrid_clock import MAX_AHEAD_MS, stamp_at
from drakkar_flow.model.cache import CacheScope
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.cache import CacheDropped, CachePeerFailed, CachePeerSynced
from support.caches import cache_scene
from support.until import until


class NoReader:
    """Reads a file at once."""

    def __init__(self, file: CacheFile) -> None:
        self.file = file

    def ask(self, key: str, answer: Any) -> None:
        """Answer from the file."""
        answer(self.file.read([key]).get(key))


class Peer:
    """A worker whose steps a test makes; `skew_s` is the error of its clock."""

    def __init__(self, root: Path, name: str, *, skew_s: float = 0.0, **values: Any) -> None:
        self.events: list[Event] = []
        bus = Bus()
        for kind in (CacheDropped, CachePeerFailed, CachePeerSynced):
            bus.listen(kind, self.events.append)
        (root / name).mkdir(exist_ok=True)
        self.file, _ = open_file(root / name)
        self.cache = WorkerCache(name, bus, now=lambda: time.time() + skew_s)
        self.cache.store(bool)
        self.cache.attach(NoReader(self.file), self.file.last_stamp())
        self.sync = PeerSync(PeerSettings(**values), root / ".changes", name, self.cache, self.file, bus)

    def flush(self) -> None:
        """Write changes to the file and to change files."""
        entries = self.cache.take_changes(10_000)
        self.file.write(entries, int(time.time() * 1000), travelling=True)
        self.cache.changes_written()
        self.sync.note(entries)
        self.sync.push()

    def value(self, key: str) -> Any:
        """The value on disk as JSON, and in memory if it is there."""
        entry = self.file.read([key]).get(key)
        stored = None if entry is None or entry.data is None else entry.data.decode()
        held = self.cache.peek(key)
        assert held is None or str(held) == stored
        return stored


def exchange(*peers: Peer) -> None:
    """All pass on what they have, then all read."""
    for peer in peers:
        peer.flush()
    for peer in peers:
        peer.sync.pull()


def failures(peer: Peer) -> list[str]:
    """The reasons of failed exchanges."""
    return [event.reason for event in peer.events if isinstance(event, CachePeerFailed)]


def test_a_value_and_its_delete_travel(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    one.cache.set("mine", 1)
    exchange(one, other)
    assert (other.value("k"), other.value("mine")) == ("1", None)
    other.cache.delete("k")
    exchange(other, one)
    assert (one.value("k"), one.cache.peek("k")) == (None, None)


def test_a_value_of_a_cluster_stays_in_it(tmp_path: Path) -> None:
    one, same, other = (
        Peer(tmp_path, "a", cluster="x"),
        Peer(tmp_path, "b", cluster="x"),
        Peer(tmp_path, "c", cluster="y"),
    )
    one.cache.set("k", 1, scope=CacheScope.CLUSTER)
    exchange(one, same, other)
    assert (same.value("k"), other.value("k")) == ("1", None)


def test_a_peer_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """Also by a new process, as the place is on disk; also in the midst of a file, if the time was over."""
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b", page=10, peer_s=0.0)
    for number in range(95):
        one.cache.set(f"k{number}", number, scope=CacheScope.GLOBAL)
    one.flush()
    rounds = 0
    while not all(other.value(f"k{number}") for number in range(95)):
        other.sync.pull()
        rounds += 1
    assert rounds == 10
    assert all(event.fetched <= 10 for event in other.events if isinstance(event, CachePeerSynced))
    one.cache.set("next", 1, scope=CacheScope.GLOBAL)
    one.flush()
    other.file.close()
    again = Peer(tmp_path, "b")
    again.sync.pull()
    assert [event for event in again.events if isinstance(event, CachePeerSynced)] == [CachePeerSynced("a", 1, 1)]


def test_many_change_files_become_a_snapshot(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    for number in range(200):
        one.cache.set(f"k{number % 7}", number, scope=CacheScope.GLOBAL)
        one.flush()
        if number == 50:
            other.sync.pull()
    assert len(list((tmp_path / ".changes" / "a").iterdir())) <= 66
    other.sync.pull()
    assert [other.value(f"k{number}") for number in range(7)] == [one.value(f"k{number}") for number in range(7)]


def test_what_a_snapshot_lacks_is_removed_at_a_worker_that_was_away(tmp_path: Path) -> None:
    """The tombstone is gone after a day; a new process of the peer begins with a snapshot."""
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    for key in ("kept", "gone"):
        one.cache.set(key, 1, scope=CacheScope.GLOBAL)
    exchange(one, other)
    one.cache.delete("gone")
    one.flush()
    one.file.clean(int(time.time() * 1000) + 25 * 3600 * 1000, 10**9)
    one.file.close()
    again = Peer(tmp_path, "a")
    again.sync.push()
    other.sync.pull()
    assert (other.value("kept"), other.value("gone")) == ("1", None)


def test_a_worker_that_was_away_for_a_day_brings_nothing_back(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c", "a", peers=PeerSettings(interval_s=0.05)) as scene:
        scene.cache.set("shared", 1, scope=CacheScope.GLOBAL)
        scene.cache.set("local", 1)
        path = tmp_path / "c" / ".changes" / "a"
        until(lambda: path.exists() and bool(change_files(path)), 20, "a change file")
    day_ago = time.time() - 25 * 3600
    for path in (tmp_path / "c" / "a").iterdir():
        os.utime(path, (day_ago, day_ago))
    peer = open_file(tmp_path / "c" / "a")[0]
    assert set(peer.read(["shared", "local"])) == {"shared", "local"}
    peer.close()
    for path in (tmp_path / "c" / "a").iterdir():
        os.utime(path, (day_ago, day_ago))
    with cache_scene(tmp_path / "c", "a", peers=PeerSettings(interval_s=0.05)):
        pass
    assert set(open_file(tmp_path / "c" / "a")[0].read(["shared", "local"])) == {"local"}


def test_a_clock_that_is_wrong_by_an_hour_does_not_win(tmp_path: Path) -> None:
    wrong, other = Peer(tmp_path, "a", skew_s=3600), Peer(tmp_path, "b")
    wrong.cache.set("k", 1, scope=CacheScope.GLOBAL)
    exchange(wrong, other)
    assert other.value("k") is None
    dropped = next(event for event in other.events if isinstance(event, CacheDropped))
    assert (dropped.kind, dropped.count) == ("ahead", 1)
    other.cache.set("k", 2, scope=CacheScope.GLOBAL)
    exchange(other, wrong)
    assert other.value("k") == "2"


def test_clocks_that_differ_by_a_minute_still_order_what_was_seen(tmp_path: Path) -> None:
    """Who has read a value writes a newer one, though its clock is behind."""
    ahead, behind = Peer(tmp_path, "a", skew_s=60), Peer(tmp_path, "b", skew_s=-60)
    ahead.cache.set("k", 1, scope=CacheScope.GLOBAL)
    exchange(ahead, behind)
    behind.cache.set("k", 2, scope=CacheScope.GLOBAL)
    exchange(behind, ahead)
    assert (ahead.value("k"), behind.value("k")) == ("2", "2")


# --- peers in trouble --------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "theirs"), [(b"one", b"other"), (b"one", b""), (b"", b"other")])
def test_a_wrong_secret_is_one_line_and_nothing_is_taken(tmp_path: Path, mine: bytes, theirs: bytes) -> None:
    one, other = Peer(tmp_path, "a", secret=theirs), Peer(tmp_path, "b", secret=mine)
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    exchange(one, other)
    assert other.value("k") is None
    assert "set the same cache.peer_sync.secret for all workers" in failures(other)[0]


def files_of(root: Path, name: str) -> list[Path]:
    """The change files of a worker."""
    directory = root / ".changes" / name
    return [directory / file.name for file in change_files(directory)]


def changed(path: Path) -> None:
    """One byte is another one."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def renamed(path: Path) -> None:
    """An old file under the name of a later one."""
    stem, _, kind = path.name.rpartition(".")
    generation = stem.partition("-")[0]
    path.rename(path.with_name(ChangeFile(f"f{generation[1:]}", 0, f".{kind}").name))


def cut(path: Path) -> None:
    """Half of it is there."""
    path.write_bytes(path.read_bytes()[:40])


def foreign(path: Path) -> None:
    """It is something else."""
    path.write_bytes(b"hello")


def replaced_by_a_pipe(path: Path) -> None:
    """A read of it would never end."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [changed, renamed, cut, foreign, replaced_by_a_pipe])
def test_a_bad_peer_costs_the_others_nothing(tmp_path: Path, damage: Any) -> None:
    bad, good, reader = Peer(tmp_path, "a"), Peer(tmp_path, "b"), Peer(tmp_path, "c")
    for name, peer in (("a", bad), ("b", good)):
        peer.cache.set(f"of {name}", 1, scope=CacheScope.GLOBAL)
        peer.flush()
    damage(files_of(tmp_path, "a")[0])
    reader.sync.pull()
    assert (reader.value("of a"), reader.value("of b")) == (None, "1")
    assert len(failures(reader)) == 1


def test_without_a_secret_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    one.flush()
    (tmp_path / ".changes").chmod(0o777)
    other.sync.pull()
    assert "others may write to it: chmod go-w it, or set cache.peer_sync.dir" in failures(other)[0]
    assert other.value("k") is None


def test_a_file_that_names_another_worker_is_refused(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    one.flush()
    shutil.copytree(tmp_path / ".changes" / "a", tmp_path / ".changes" / "x")
    other.sync.pull()
    assert len(failures(other)) == 1
    assert other.value("k") == "1"


def test_a_change_that_could_not_be_written_is_in_the_next_snapshot(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    one.cache.set("first", 1, scope=CacheScope.GLOBAL)
    exchange(one, other)
    directory = tmp_path / ".changes" / "a"
    aside = directory.rename(tmp_path / "aside")
    directory.write_text("in the way")
    one.cache.set("second", 2, scope=CacheScope.GLOBAL)
    one.flush()
    assert failures(one)
    directory.unlink()
    aside.rename(directory)
    exchange(one, other)
    assert other.value("second") == "2"


def test_a_second_worker_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    one = Peer(tmp_path, "a")
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    time.sleep(0.002)  # generations begin with the millisecond
    other = Peer(tmp_path / "host", "a")
    other.sync = PeerSync(PeerSettings(), tmp_path / ".changes", "a", other.cache, other.file, Bus())
    other.cache.set("k", 2, scope=CacheScope.GLOBAL)
    other.flush()
    one.flush()
    assert "give each worker its own name" in failures(one)[0]


def test_directories_of_workers_that_are_gone_for_a_week_are_removed(tmp_path: Path) -> None:
    one, other = Peer(tmp_path, "a"), Peer(tmp_path, "b")
    one.cache.set("k", 1, scope=CacheScope.GLOBAL)
    one.flush()
    directory = tmp_path / ".changes" / "a"
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(directory, (long_ago, long_ago))
    other.sync.pull()
    assert not directory.exists()
    one.cache.set("k", 2, scope=CacheScope.GLOBAL)
    one.flush()
    one.sync.push()
    other.sync.pull()
    assert other.value("k") == "2"


def test_stamps_far_ahead_never_beat_others_in_the_file(tmp_path: Path) -> None:
    peer = Peer(tmp_path, "a")
    now_ms = int(time.time() * 1000)
    ahead = CacheEntry("k", b"1", "global", stamp_at(now_ms + MAX_AHEAD_MS + 10_000), "a")
    for entry, value in ((ahead, "1"), (ahead._replace(stamp=stamp_at(now_ms), data=b"2"), "2"), (ahead, "2")):
        peer.file.write([entry], now_ms, travelling=True)
        assert peer.value("k") == value


# --- three workers against a model -------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["x", "y"])


class ThreeWorkers(RuleBasedStateMachine):
    """Whatever order of writes, deletes, exchanges and restarts: all end with the last write of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.peers = {name: self.begin(name) for name in "abc"}
        self.number = 0

    def begin(self, name: str) -> Peer:
        """Start a worker; each clock is wrong by something."""
        return Peer(self.root, name, skew_s={"a": -30.0, "b": 0.0, "c": 45.0}[name], page=2)

    @rule(name=NAMES, key=KEYS, scope=st.sampled_from([CacheScope.GLOBAL, CacheScope.CLUSTER]))
    def write(self, name: str, key: str, scope: CacheScope) -> None:
        """Set a key to a value that was not there."""
        self.number += 1
        self.peers[name].cache.set(key, self.number, scope=scope)

    @rule(name=NAMES, key=KEYS)
    def delete(self, name: str, key: str) -> None:
        """Delete a key, known or not."""
        self.peers[name].cache.delete(key)

    @rule(name=NAMES)
    def flush(self, name: str) -> None:
        """Write and pass on."""
        self.peers[name].flush()

    @rule(name=NAMES)
    def pull(self, name: str) -> None:
        """Read from the others."""
        self.peers[name].sync.pull()

    @rule(name=NAMES)
    def restart(self, name: str) -> None:
        """Crash: what was not flushed is lost."""
        self.peers[name].file.close()
        self.peers[name] = self.begin(name)

    @invariant()
    def nothing_fails(self) -> None:
        """No exchange ends in an error."""
        assert [failures(peer) for peer in self.peers.values()] == [[], [], []]

    def teardown(self) -> None:
        """Let all meet: they agree, and a further exchange changes nothing."""
        for _ in range(2):
            exchange(*self.peers.values())
        for key in ("x", "y"):
            values = {peer.value(key) for peer in self.peers.values()}
            assert len(values) == 1, (key, values)
        for peer in self.peers.values():
            peer.file.close()
        shutil.rmtree(self.root)


TestThreeWorkers = ThreeWorkers.TestCase
TestThreeWorkers.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
