"""State of a handler's hooks: each call reads and writes in a scope, which counts when the call has returned."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from drakkar_flow.errors import StateError
from drakkar_flow.kernel.ledger import Ledger, StateChange
from drakkar_flow.model.record import Record
from drakkar_flow.model.state import (
    CURRENT_STATE,
    HANDLER_STEP,
    HANDLER_TIMERS,
    StateCodec,
    UserKey,
    key_of,
    key_text,
)
from drakkar_flow.runtime.hook_calls import Done, HookCalls
from drakkar_flow.runtime.state.ledgers import Ledgers
from drakkar_flow.runtime.state.timers import StepTimers, at_ms, encode_time

__all__ = ["HandlerState"]

ErrorOf = Callable[[Any, BaseException | None], BaseException | None]
"""Error of a call, which may be the value it returned."""


class HandlerState:
    """Opens a scope for each call of a hook. `wall_clock` returns the seconds since the epoch.

    `on_timer` is the handler's hook for timers that are due; None if it has none.
    """

    def __init__(
        self,
        codec: StateCodec,
        ledgers: Ledgers,
        wall_clock: Callable[[], float],
        on_timer: Callable[[UserKey], Any] | None = None,
    ) -> None:
        self.codec = codec
        self.ledgers = ledgers
        self.timers = StepTimers(HANDLER_TIMERS)
        self.on_timer = on_timer
        self._wall_clock = wall_clock

    def now_ms(self) -> int:
        """Return the time in ms since the epoch."""
        return int(self._wall_clock() * 1000)

    def call(
        self,
        calls: HookCalls,
        hook: Callable[..., Any],
        args: tuple[Any, ...],
        done: Done,
        about: object,
        records: Iterable[Record],
        error_of: ErrorOf,
    ) -> None:
        """Call a hook about records of one partition; its changes belong to all of them, if it has no error."""
        calls.call(partial(_Scope(self, records, error_of).run, hook), args, done, about)

    def due(self, record: Record) -> list[str]:
        """Return the keys whose timers fire with a record, and remove them: that is a change of this record."""
        if self.on_timer is None:
            return []
        with self.ledgers.lock:
            ledger = self.ledgers.at(record.topic_partition, record.epoch)
            if ledger is None:
                return []
            due = self.timers.of(record.topic_partition, record.epoch, ledger).due(self.now_ms())
            for text in due:
                ledger.put((HANDLER_TIMERS, text), None, record.offset)
        return due

    def fire(self, text: str, record: Record, error_of: ErrorOf) -> Any:
        """Call `on_timer` for a key; returns its payloads, or an awaitable of them."""
        assert self.on_timer is not None
        return _Scope(self, [record], error_of).run(self.on_timer, key_of(text))

    def on_trial(
        self, hook: Callable[..., Any], arguments: Callable[[Record], tuple[Any, ...]]
    ) -> tuple[Callable[..., Any], Callable[[Record], tuple[Any, ...]]]:
        """Return a hook and its arguments for calls about single records whose changes are dropped."""
        return partial(self._run_alone, hook), lambda record: (record, *arguments(record))

    def _run_alone(self, hook: Callable[..., Any], record: Record, *args: Any) -> Any:
        return _Scope(self, [record], None).run(hook, *args)


class _Scope:
    """State of one call, as `self.state` of its handler: its changes are seen by the call alone until it returns.

    They are written before another call goes on, so calls that do not wait after they have read never conflict. Without
    `error_of` they are dropped.
    """

    def __init__(self, owner: HandlerState, records: Iterable[Record], error_of: ErrorOf | None) -> None:
        self._owner = owner
        self._records = list(records)
        self._error_of = error_of
        self._read: dict[str, bytes | None] = {}
        self._written: dict[str, bytes | None] = {}
        self._timers: dict[str, int | None] = {}
        self._closed = False

    # --- called by the hook ---------------------------------------------------------------------

    def get(self, key: UserKey, default: Any = None) -> Any:
        """Return the newest value of a key."""
        stored = self._stored(key)
        if stored is None:
            return default
        try:
            return self._owner.codec.decode(stored)
        except StateError as exc:
            raise self._located(key, exc) from exc

    def __getitem__(self, key: UserKey) -> Any:
        if self._stored(key) is None:
            raise KeyError(key)
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        return self._stored(key) is not None

    def __setitem__(self, key: UserKey, value: Any) -> None:
        text = self._text(key)
        try:
            self._written[text] = self._owner.codec.encode(value, self._owner.now_ms())
        except StateError as exc:
            raise self._located(key, exc) from exc

    def __delitem__(self, key: UserKey) -> None:
        if self._stored(key) is None:
            raise KeyError(key)
        self._written[self._text(key)] = None

    def set_timer(self, key: UserKey, delay_s: float | None) -> None:
        """Let `on_timer(key)` be called in `delay_s` seconds, in place of an earlier timer of the key; None cancels it.

        Raises:
            RuntimeError: the handler has no `on_timer`.
            TypeError: the delay is no number.
        """
        text = self._text(key)
        if self._owner.on_timer is None:
            raise RuntimeError("set_timer needs a hook on_timer(self, key), which this handler does not define")
        self._timers[text] = None if delay_s is None else at_ms(delay_s, self._owner.now_ms(), f"key {key!r}")

    def _stored(self, key: object) -> bytes | None:
        text = self._text(key)
        if text in self._written:
            stored = self._written[text]
        elif text in self._read:
            stored = self._read[text]
        else:
            record, ledgers = self._records[0], self._owner.ledgers
            with ledgers.lock:
                ledger = ledgers.at(record.topic_partition, record.epoch)
                stored = self._read[text] = None if ledger is None else ledger.get((HANDLER_STEP, text))
        if stored is not None and self._owner.codec.is_expired(stored, self._owner.now_ms()):
            return None
        return stored

    def _text(self, key: object) -> str:
        if self._closed:
            raise RuntimeError("the hook has ended: its state can't be used any more")
        return key_text(key)

    def _located(self, key: UserKey, error: StateError) -> StateError:
        return StateError(f"state of the handler, key {key!r}, {self._records[0].label}: {error}")

    # --- called by the library ------------------------------------------------------------------

    def run(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call the hook in this scope; the scope also holds while an awaitable that it returns is awaited.

        Raises:
            StateError: another call has changed what this one read and wrote; nothing was written.
        """
        token = CURRENT_STATE.set(self)
        try:
            value = hook(*args)
        except BaseException:
            self._closed = True
            raise
        finally:
            CURRENT_STATE.reset(token)
        return self._awaited(value) if inspect.isawaitable(value) else self._close(value)

    async def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        CURRENT_STATE.set(self)  # in the context of the call's own task
        try:
            value = await awaitable
        except BaseException:
            self._closed = True
            raise
        return self._close(value)

    def _close(self, value: Any) -> Any:
        """End the call, write its changes unless its value is refused, and return the value."""
        self._closed = True
        changed = self._written or self._timers
        if changed and self._error_of is not None and self._error_of(value, None) is None:
            self._write()
        return value

    def _write(self) -> None:
        ledgers, record = self._owner.ledgers, self._records[0]
        with ledgers.lock:
            ledger = ledgers.at(record.topic_partition, record.epoch)
            if ledger is None:
                return  # fenced meanwhile: the records are read again
            offsets = sorted({each.offset for each in self._records})
            last = offsets[-1]
            changes: list[StateChange] = []
            for text, value in self._written.items():
                was = self._read.get(text)
                if text in self._read and ledger.get((HANDLER_STEP, text)) != was:
                    what = "another hook changed it meanwhile; read and write it after the last await"
                    raise self._located(key_of(text), StateError(what))
                if not self._is_known(was, value):
                    changes.append((text, value, last))
            timer_changes = self._timer_changes(ledger, last)
            if changes or timer_changes:
                ledger.tie(offsets)
            ledger.put_all(HANDLER_STEP, changes)
            ledger.put_all(HANDLER_TIMERS, timer_changes)
            swept = len(changes) + len(timer_changes)
            if self._owner.codec.ttl_ms is not None:
                is_expired, now_ms = self._owner.codec.is_expired, self._owner.now_ms()
                ledger.sweep(HANDLER_STEP, lambda value: is_expired(value, now_ms), swept)

    def _timer_changes(self, ledger: Ledger, offset: int) -> list[StateChange]:
        """Set the timers; returns the changes that keep their times."""
        if not self._timers:
            return []
        record, now_ms = self._records[0], self._owner.now_ms()
        timers = self._owner.timers.of(record.topic_partition, record.epoch, ledger)
        for text, time_ms in self._timers.items():
            timers.set(text, time_ms)
        return [(text, encode_time(time_ms, now_ms), offset) for text, time_ms in self._timers.items()]

    def _is_known(self, was: bytes | None, value: bytes | None) -> bool:
        """Return True if a write changes nothing; with a time to live it renews that."""
        codec = self._owner.codec
        if was is None or value is None:
            return was is value
        return codec.ttl_ms is None and codec.are_equal(was, value)
