"""Ids of tasks and requests, and times as text."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from threading import Lock

__all__ = ["format_rfc3339_micro", "make_request_id", "make_stable_task_id", "make_task_id"]

_requests = count(1)


def _rising_ns() -> Iterator[int]:
    last = 0
    while True:
        last = max(time.time_ns(), last + 1)
        yield last


_lock = Lock()
_times = _rising_ns()


def make_task_id(prefix: str = "t") -> str:
    """Make a task id whose lexicographic order is its creation order, in this process even if the clock is set back.

    >>> make_task_id() < make_task_id()
    True
    """
    with _lock:
        now_ns = next(_times)
    return f"{prefix}-{now_ns:016x}-{os.urandom(4).hex()}"


def make_stable_task_id(prefix: str, *parts: str | int) -> str:
    """Make the same id for the same parts, so that pending tasks can be recognised.

    Each part enters the SHA-256 with its length (8 bytes, big endian) before it, so that
    `("ab", "c")` and `("a", "bc")` differ. The rule is py-drakkar's, ids stay comparable.

    >>> make_stable_task_id("t", "alpha", "beta")
    't-5d11bfa62398519b'

    Raises:
        ValueError: when no parts are given.
    """
    if not parts:
        raise ValueError("make_stable_task_id needs at least one part besides the prefix")
    digest = hashlib.sha256()
    for part in parts:
        raw = str(part).encode()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return f"{prefix}-{digest.hexdigest()[:16]}"


def make_request_id(prefix: str = "req") -> str:
    """Make a readable id: the time in UTC and a number that counts up in this process.

    >>> make_request_id() != make_request_id()
    True
    """
    return f"{prefix}_{datetime.now(UTC):%Y%m%dT%H%M%S}_{next(_requests):04d}"


def format_rfc3339_micro(dt: datetime) -> str:
    """Write a time in UTC with six digits of microseconds; one without a zone is taken as UTC.

    >>> format_rfc3339_micro(datetime(2026, 7, 5, 12, 34, 56))
    '2026-07-05T12:34:56.000000Z'
    """
    utc = dt.replace(tzinfo=UTC) if dt.tzinfo is None else dt.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S.%f}Z"
