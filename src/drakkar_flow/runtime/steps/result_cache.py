"""Result cache: answers tasks from the cache, and stores the results of the others."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import msgspec

from drakkar_flow.graph.cached_execute import CachedExecute
from drakkar_flow.model.cache import CacheStore
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ExecutorResult, ExecutorTask

__all__ = ["ResultCache"]

_PREFIX: Final = "drakkar:result:"
_pack = msgspec.msgpack.Encoder().encode


class ResultCache:
    """Results of an execute step. `programs` describes the program of each executor, as a part of its keys."""

    def __init__(self, cache: CacheStore, rule: CachedExecute, programs: Mapping[str, Any]) -> None:
        self._cache = cache
        self._rule = rule
        self._programs = programs

    def key_of(self, task: ExecutorTask) -> str:
        """Return the key of a task's result; empty if it is not cached.

        Raises:
            Exception: that of the user's function.
        """
        if self._rule.key is not None:
            key = self._rule.key(task)
            if key is not None and not isinstance(key, str):
                raise TypeError(f"key returned {type(key).__name__} {key!r}, expected text or None")
            return "" if key is None else f"{_PREFIX}{self._rule.version}:{key}"
        program = self._programs.get(task.executor or "default")
        parts = (self._rule.version, program, task.binary_path, task.args, task.env, task.ok_exit_codes)
        digest = blake2b(_pack(parts), digest_size=20)
        stdin = task.stdin
        if stdin is not None:
            digest.update(b"t" + stdin.encode(errors="surrogatepass") if isinstance(stdin, str) else b"b" + stdin)
        return _PREFIX + digest.hexdigest()

    def hit(self, key: str) -> PrecomputedResult | None:
        """Return the result in memory."""
        return _result(self._cache.hit(key))

    async def get(self, key: str) -> PrecomputedResult | None:
        """Return the result from memory or from the file."""
        return _result(await self._cache.get(key))

    def store(self, key: str, result: ExecutorResult) -> None:
        """Store the result of a program; not one that was cut."""
        if result.stdout_truncated or result.stderr_truncated:
            return
        value: dict[str, Any] = {"exit_code": result.exit_code}
        for name, text, raw in (
            ("stdout", result.stdout, result.raw_stdout),
            ("stderr", result.stderr, result.raw_stderr),
        ):
            if raw is not None:
                value[f"{name}_base64"] = b64encode(raw).decode()
            else:
                value[name] = text
        with suppress(TypeError):  # text with unpaired surrogates
            self._cache.set(key, value, ttl=self._rule.ttl_s, scope=self._rule.scope)


def _result(value: Any) -> PrecomputedResult | None:
    """Return a stored result; None for any other value."""
    if not isinstance(value, dict):
        return None
    try:
        return PrecomputedResult(
            stdout=_output(value, "stdout"), stderr=_output(value, "stderr"), exit_code=int(value["exit_code"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def _output(value: Mapping[str, Any], name: str) -> str | bytes:
    raw = value.get(f"{name}_base64")
    return str(value[name]) if raw is None else b64decode(raw)
