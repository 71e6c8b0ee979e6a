"""Reader: reads entries from the cache file on a thread, many keys at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from drakkar_flow.cache.file import CacheFile
from drakkar_flow.kernel.cache_entries import CacheEntry
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import CacheDropped

__all__ = ["FileReader"]

_MAX_WAITING = 10_000
_MOST_KEYS = 500  # of one query

Answer = Callable[[CacheEntry | None], None]


class FileReader:
    """Answers every question, also after `close`: with None."""

    def __init__(self, file: CacheFile, bus: Bus) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the host lacks threads.
        """
        self._file = file
        self._bus = bus
        self._questions: SimpleQueue[tuple[str, Answer] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="drakkar-cache-reader", daemon=True)
        self._thread.start()

    def ask(self, key: str, answer: Answer) -> None:
        """Read a key, then call `answer` on the thread; a question too many is answered with None at once."""
        if self._closed or self._questions.qsize() >= _MAX_WAITING:
            answer(None)
            return
        self._questions.put((key, answer))
        if not self._thread.is_alive():  # it has ended in between
            self._refuse()

    def close(self, timeout_s: float) -> None:
        """End the thread, for at most `timeout_s`; safe to call twice."""
        self._closed = True
        self._questions.put(None)
        self._thread.join(timeout_s)
        self._refuse()

    def _run(self) -> None:
        while (first := self._questions.get()) is not None:
            asked, ended = [first], False
            while len(asked) < _MOST_KEYS and not ended:
                try:
                    each = self._questions.get_nowait()
                except Empty:
                    break
                ended = each is None
                if each is not None:
                    asked.append(each)
            self._answer(asked)
            if ended:
                return

    def _answer(self, asked: list[tuple[str, Answer]]) -> None:
        try:
            found = self._file.read([key for key, _ in asked])
        except (sqlite3.Error, UnicodeError) as exc:
            found = {}
            self._bus.emit(CacheDropped("unread", len(asked), f"the file can't be read: {exc}"))
        for key, answer in asked:
            answer(found.get(key))

    def _refuse(self) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except Empty:
                return
            if question is not None:
                question[1](None)
