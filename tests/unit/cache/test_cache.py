"""The cache of a worker: its API, its file, and what it does in trouble."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from drakkar_flow.cache.cache import MAX_VALUE_BYTES, WorkerCache
from drakkar_flow.cache.file import NAME
from drakkar_flow.kernel.cache_entries import CacheEntry
from drakkar_flow.model.cache import CacheLike, CacheScope
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import (
    CacheChanged,
    CacheCleaned,
    CacheDropped,
    CacheFlushed,
    CacheFlushFailed,
    CacheStarted,
    CacheUsed,
)
from support.caches import cache_scene
from support.until import until


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Time:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class User(BaseModel):
    """A model."""

    name: str


def in_memory(**options: Any) -> tuple[WorkerCache, Time, list[CacheDropped]]:
    """A cache without a file, its clock, and what it dropped."""
    bus, time, dropped = Bus(), Time(), list[CacheDropped]()
    bus.listen(CacheDropped, dropped.append)
    return WorkerCache("w", bus, now=time, **options), time, dropped


# --- the API -----------------------------------------------------------------------------------------


def test_a_value_is_there_until_it_is_deleted() -> None:
    cache, _, _ = in_memory()
    cache.set("user:1", {"name": "Ada"})
    assert isinstance(cache, CacheLike)
    assert (cache.peek("user:1"), "user:1" in cache) == ({"name": "Ada"}, True)
    assert cache.delete("user:1") is True
    assert (cache.peek("user:1"), "user:1" in cache, cache.delete("user:1")) == (None, False, False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.text(), JSON)
def test_any_json_value_comes_back_equal(key: str, value: Any) -> None:
    cache, _, _ = in_memory()
    try:
        cache.set(key, value)
    except TypeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in key + repr(value)) or "\\ud" in repr(key + repr(value))
        return
    assert cache.peek(key) == value


def test_to_change_a_value_that_was_read_changes_nothing() -> None:
    cache, _, _ = in_memory()
    given_value = {"tags": ["a"]}
    cache.set("k", given_value)
    given_value["tags"].append("b")
    cache.peek("k")["tags"].append("c")
    assert cache.peek("k") == {"tags": ["a"]}


@on_a_loop
async def test_get_returns_the_type_that_is_asked_for() -> None:
    cache, _, dropped = in_memory()
    cache.set("user", User(name="Ada"))
    cache.set("text", "hello")
    assert await cache.get("user") == {"name": "Ada"}
    assert await cache.get("user", as_type=User) == User(name="Ada")
    assert await cache.get("text", as_type=str) == "hello"
    assert await cache.get("text", as_type=User) is None, "it does not fit, so it is missing"
    assert [(each.kind, "'text' does not fit" in each.reason) for each in dropped] == [("unreadable", True)]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda cache: cache.set("k", object()), TypeError, r"cache\.set\('k'\): .* no JSON form: pass values"),
        (lambda cache: cache.set("k", b"x"), TypeError, r"bytes has no JSON form"),
        (lambda cache: cache.set("k", float("nan")), TypeError, r"nan has no JSON form"),
        (lambda cache: cache.set(7, "x"), TypeError, r"the key is int 7, expected text: write str\(key\)"),
        (lambda cache: cache.set("\ud800", 1), TypeError, r"can't be stored"),
        (lambda cache: cache.set("k", 1, ttl=0), ValueError, r"ttl is 0, expected seconds above 0, or None"),
        (lambda cache: cache.set("k", 1, ttl=float("inf")), ValueError, r"ttl is inf"),
        (
            lambda cache: cache.set("k", 1, scope="planet"),
            ValueError,
            r"scope is 'planet', expected one of memory, local",
        ),
    ],
)
def test_a_mistake_is_an_error_that_names_the_fix(
    call: Callable[[WorkerCache], None], error: type[Exception], text: str
) -> None:
    cache, _, _ = in_memory()
    with pytest.raises(error, match=text):
        call(cache)


def test_a_value_that_is_too_large_is_not_stored_and_neither_is_an_older_one() -> None:
    cache, _, dropped = in_memory()
    cache.set("k", "small")
    cache.set("k", "x" * MAX_VALUE_BYTES)
    assert cache.peek("k") is None
    assert dropped[0].reason == "'k' has 1,048,578 bytes, at most 1,048,576 are stored"


def test_memory_is_bounded_by_bytes_too() -> None:
    cache, _, _ = in_memory(max_size=10_000)
    for number in range(20):
        cache.set(f"k{number}", "x" * 1000)
    usage = cache.usage()
    assert usage.bytes_in_memory <= 10_000
    assert (usage.entries_in_memory, usage.evictions) == (7, 13)


def test_usage_counts_since_the_last_call() -> None:
    cache, _, _ = in_memory()
    cache.set("a", 1)
    cache.set("b", 2, scope=CacheScope.GLOBAL)
    cache.delete("b")
    asyncio.run(cache.get("a"))
    asyncio.run(cache.get("b"))
    used = cache.usage()
    assert (used.hits_memory, used.misses, used.deletes) == (1, 1, 1)
    assert used.writes == (("local", 1), ("global", 1))
    assert cache.usage() == CacheUsed(entries_in_memory=1, bytes_in_memory=used.bytes_in_memory)


# --- the acceptance cases of py-drakkar --------------------------------------------------------------


@on_a_loop
async def test_d41_ttl_expires_and_evicted_entries_are_read_from_the_file(tmp_path: Path) -> None:
    """A ttl of 1 s is a miss after 1 s; with room for two, the oldest of three is still on disk."""
    cache, time, _ = in_memory()
    cache.set("k", 1, ttl=1)
    time.now += 0.999
    assert cache.peek("k") == 1
    time.now += 0.001
    assert (cache.peek("k"), "k" in cache, await cache.get("k")) == (None, False, None)
    with cache_scene(tmp_path / "c", max_entries=2) as scene:
        for key in "abc":
            scene.cache.set(key, key.upper())
        assert scene.cache.peek("a") is None
        assert await scene.cache.get("a") == "A"
    with cache_scene(tmp_path / "c") as scene:
        assert [await scene.cache.get(key) for key in "abcd"] == ["A", "B", "C", None]


def test_d42_a_failed_flush_loses_nothing_and_close_flushes(tmp_path: Path) -> None:
    """A batch that could not be written is queued again, unless its key has changed since."""
    cache, _, _ = in_memory()
    cache.store(bool)
    cache.set("a", 1)
    cache.set("b", 1)
    assert [entry.key for entry in cache.take_changes(10)] == ["a", "b"]
    cache.set("b", 2)
    cache.put_back()
    assert [(entry.key, entry.data) for entry in cache.take_changes(10)] == [("a", b"1"), ("b", b"2")]
    with cache_scene(tmp_path / "c", flush_s=3600) as scene:
        scene.cache.set("k", "kept")
        assert not scene.of(CacheFlushed)
    assert scene.of(CacheFlushed) == [CacheFlushed(1, 0)]
    with cache_scene(tmp_path / "c") as scene:
        assert asyncio.run(scene.cache.get("k")) == "kept"


def test_d43_a_delete_on_one_worker_does_not_wait_for_another(tmp_path: Path) -> None:
    """A deletes its copy at once, also on disk; B still has its own."""
    with cache_scene(tmp_path / "c", "a") as one, cache_scene(tmp_path / "c", "b") as other:
        for scene in (one, other):
            scene.cache.set("k", 1)
        one.until(CacheFlushed)
        assert one.cache.delete("k") is True
        assert (one.cache.peek("k"), other.cache.peek("k")) == (None, 1)
    with cache_scene(tmp_path / "c", "a") as one, cache_scene(tmp_path / "c", "b") as other:
        assert asyncio.run(one.cache.get("k")) is None
        assert asyncio.run(other.cache.get("k")) == 1


# --- the file ----------------------------------------------------------------------------------------


def stored(directory: Path, worker: str = "w") -> dict[str, tuple[str, bytes]]:
    """Scope and value of the entries in a worker's file."""
    with sqlite3.connect(directory / worker / NAME) as connection:
        return {key: (scope, data) for key, scope, data in connection.execute("SELECT key, scope, data FROM entries")}


def test_a_crash_keeps_what_was_flushed(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c") as scene:
        scene.cache.set("k", 1)
        scene.until(CacheFlushed)
        assert stored(tmp_path / "c") == {"k": ("local", b"1")}


def test_values_of_the_scope_memory_never_reach_the_disk(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c") as scene:
        scene.cache.set("secret", 1, scope=CacheScope.MEMORY)
        scene.cache.set("k", 1)
        scene.until(CacheFlushed)
        scene.cache.set("k", 2, scope=CacheScope.MEMORY)
        assert (scene.cache.peek("secret"), scene.cache.peek("k")) == (1, 2)
    assert stored(tmp_path / "c") == {}


def test_a_thousand_changes_are_written_at_once(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c", flush_s=3600) as scene:
        for number in range(1000):
            scene.cache.set(f"k{number}", number)
        assert scene.until(CacheFlushed).written >= 1000


@on_a_loop
async def test_many_reads_of_one_key_are_one(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c") as scene:
        scene.cache.set("k", {"n": 1})
    with cache_scene(tmp_path / "c") as scene:
        answers = await asyncio.gather(*(scene.cache.get("k") for _ in range(50)))
        assert answers == [{"n": 1}] * 50
        assert scene.cache.peek("k") == {"n": 1}, "a value that was read is in memory"


class Held:
    """A reader that answers when the test says so."""

    def __init__(self) -> None:
        self.answers: list[Callable[[CacheEntry | None], None]] = []

    def ask(self, key: str, answer: Callable[[CacheEntry | None], None]) -> None:
        """Keep the question."""
        self.answers.append(answer)


@on_a_loop
async def test_a_value_set_during_a_read_is_not_replaced_by_the_older_one() -> None:
    cache, _, _ = in_memory()
    reader = Held()
    cache.store(bool)
    cache.attach(reader, 0)
    reading = asyncio.create_task(cache.get("k"))
    await asyncio.sleep(0)
    cache.set("k", "new")
    reader.answers[0](CacheEntry("k", b'"old"', "local", 1, "w"))
    assert await reading == "new"
    assert cache.peek("k") == "new"


@on_a_loop
async def test_a_cancelled_get_leaves_the_others_their_answer() -> None:
    cache, _, _ = in_memory()
    reader = Held()
    cache.attach(reader, 0)
    one, other = asyncio.create_task(cache.get("k")), asyncio.create_task(cache.get("k"))
    await asyncio.sleep(0)
    one.cancel()
    reader.answers[0](CacheEntry("k", b"1", "local", 1, "w"))
    assert await other == 1
    assert len(reader.answers) == 1


def test_expired_entries_leave_the_file_and_the_oldest_if_it_is_too_large(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c", cleanup_s=0.0, max_file_size=300_000) as scene:
        scene.cache.set("short", 1, ttl=0.001)
        until(lambda: any(each.expired for each in scene.of(CacheCleaned)), 20, "an expired entry")
        for number in range(1000):
            scene.cache.set(f"k{number:03}", "x" * 1000)
        until(lambda: any(each.evicted for each in scene.of(CacheCleaned)), 20, "evicted entries")
    left = sorted(stored(tmp_path / "c"))
    assert left[-1] == "k999"
    assert "k000" not in left


# --- trouble -----------------------------------------------------------------------------------------


def unwritable(path: Path) -> None:
    """A file in place of the directory."""
    path.write_text("")


def open_to_others(path: Path) -> None:
    """A directory that others may write to."""
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [(unwritable, "it is no directory: set cache.db_dir"), (open_to_others, "others may write to it: chmod go-w it")],
)
@on_a_loop
async def test_a_directory_that_can_not_be_used_leaves_the_cache_in_memory(
    tmp_path: Path, prepare: Callable[[Path], None], reason: str
) -> None:
    prepare(tmp_path / "c")
    with cache_scene(tmp_path / "c") as scene:
        assert reason in scene.until(CacheChanged).reason
        scene.cache.set("k", 1)
        assert await scene.cache.get("k") == 1
        assert await scene.cache.get("other") is None


@pytest.mark.parametrize("content", [b"this is no database, and long enough to be read as one" * 100, b"\0" * 8192])
def test_a_file_that_is_no_cache_is_kept_aside_and_a_new_one_begun(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c" / "w").mkdir(parents=True, mode=0o700)
    (tmp_path / "c" / "w" / NAME).write_bytes(content)
    with cache_scene(tmp_path / "c") as scene:
        scene.until(CacheStarted)
        assert "a new file begun" in scene.until(CacheChanged).reason
        scene.cache.set("k", 1)
    assert stored(tmp_path / "c") == {"k": ("local", b"1")}
    assert (tmp_path / "c" / "w" / f"{NAME}.unusable").read_bytes() == content


def test_a_foreign_database_is_kept_aside_too(tmp_path: Path) -> None:
    (tmp_path / "c" / "w").mkdir(parents=True, mode=0o700)
    with sqlite3.connect(tmp_path / "c" / "w" / NAME) as connection:
        connection.execute("PRAGMA application_id = 77")
        connection.execute("CREATE TABLE theirs(x)")
    with cache_scene(tmp_path / "c") as scene:
        assert "it is no cache of drakkar-flow" in scene.until(CacheChanged).reason


def test_a_write_that_fails_is_tried_again_and_nothing_is_lost(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c", flush_s=0.02, again_s=0.05) as scene:
        blocker = sqlite3.connect(tmp_path / "c" / "w" / NAME, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        scene.cache.set("k", 1)
        assert "locked" in scene.until(CacheFlushFailed).reason
        blocker.execute("ROLLBACK")
        blocker.close()
        scene.until(CacheFlushed)
    assert stored(tmp_path / "c") == {"k": ("local", b"1")}


def test_changes_beyond_the_bound_of_the_queue_drop_the_oldest() -> None:
    cache, _, dropped = in_memory(max_queued=2)
    cache.store(bool)
    for key in "abc":
        cache.set(key, 1)
    cache.usage()
    assert [(each.kind, each.count) for each in dropped] == [("queue_full", 1)]
    assert [entry.key for entry in cache.take_changes(9)] == ["b", "c"]


def test_a_second_worker_of_the_same_name_has_its_own_file(tmp_path: Path) -> None:
    with cache_scene(tmp_path / "c") as one, cache_scene(tmp_path / "c") as other:
        one.cache.set("k", 1)
        other.cache.set("k", 2)
    assert stored(tmp_path / "c") == {"k": ("local", b"1")}
    assert stored(tmp_path / "c", f"w+{os.getpid()}") == {"k": ("local", b"2")}


def test_a_struct_is_stored_as_its_json_form() -> None:
    class Point(msgspec.Struct):
        x: int

    cache, _, _ = in_memory()
    cache.set("p", Point(3))
    assert cache.peek("p") == {"x": 3}
    assert asyncio.run(cache.get("p", as_type=Point)) == Point(3)
