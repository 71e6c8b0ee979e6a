"""Long-lived child: its requests from start to end, and its states.

opening ── ready ──┬── retired: gets no more requests, ends its last ones ── dismissed: stdin closed ── ended
                   └── killed: violated the protocol, silent or timed out ───────────────────────────── ended
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Collection
from typing import NamedTuple, Protocol

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.executor.persistent.codec import Codec, ProtocolError
from drakkar_flow.executor.persistent.log_lines import LogLines
from drakkar_flow.executor.persistent.opening import Session, opening_for
from drakkar_flow.executor.persistent.outcomes import answered, failed, timed_out
from drakkar_flow.executor.persistent.process import Process, Spawned
from drakkar_flow.executor.persistent.request import Request
from drakkar_flow.executor.rlimits import limit_met
from drakkar_flow.model.task import ErrorKind

__all__ = ["Child", "ChildExit", "ChildLimits", "Owner"]

_LINGER_S = 0.25  # grace for a child that closed a pipe to exit with its exit code


class ChildLimits(NamedTuple):
    """Timeouts of a request and of its cancellation in seconds; limits of stdout and stderr in bytes; the kernel's
    limits; and the exit codes of an answer that count as success."""

    timeout_s: float
    cancel_grace_s: float
    caps: tuple[int, int]
    kernel: LimitsConfig
    ok_exit_codes: Collection[int] = (0,)


class ChildExit(NamedTuple):
    """End of a child: `failed` unless it was intended or a timeout; the number of its answers."""

    reason: str
    failed: bool
    answered: int = 0


class Owner(Protocol):
    """Callbacks of a child, on the loop thread."""

    def ready(self, child: Child) -> None:
        """Handle a child that accepts requests from now on."""

    def settle(self, request: Request, outcome: TaskOutcome) -> None:
        """Handle the end of a request that was not abandoned before."""

    def turned(self, child: Child) -> None:
        """Handle free capacity after the requests that were just settled."""

    def logged(self, child: Child, lines: list[str], more: int) -> None:
        """Handle lines on stderr, and `more` dropped ones."""


class Child:
    """Session with one process. `in_flight` are its requests by id, `capacity` is their current maximum.

    `share` is the part of its maximum of requests after which it is replaced.
    """

    def __init__(
        self, number: int, config: PersistentConfig, limits: ChildLimits, owner: Owner, share: float = 1.0
    ) -> None:
        self.number = number
        self.capacity = 0
        self.in_flight: dict[int, Request] = {}
        self.sent = 0
        self.answered = 0
        self.conversation: Session | None = None
        self._config = config
        self._limits = limits
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[ChildExit] = self._loop.create_future()
        self._opening = opening_for(config)
        self._log = LogLines()
        self._overdue: dict[int, float] = {}  # timed out, with the deadline of the cancellation
        self._timer: asyncio.TimerHandle | None = None
        self.heard_at = self._busy_since = self.born_at = time.monotonic()
        self._last = math.ceil((config.recycle_after_requests or 0) * share)  # request; 0: there is no last one
        self._retired = False
        self._dismissed = False
        self._verdict: ChildExit | None = None

    def begin(self, spawned: Spawned) -> None:
        """Begin the session; `ended` gets the child exit when the process is gone."""
        self._process = Process(spawned, self)
        self._timer = self._loop.call_later(self._config.start_timeout_s, self._not_ready)
        if self._opening.words:
            self._process.write(self._opening.words)
        self._open(b"")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    # --- called by the pool ---------------------------------------------------------------------

    def send(self, request: Request, now: float) -> None:
        """Send a task.

        Raises:
            UnencodableTask: if the task can't be encoded for this child; nothing was sent.
        """
        number = self.sent + 1
        data = self._dialect.encode(number, request.task, self._limits.timeout_s)
        self.sent = number
        request.id, request.child, request.sent_at = number, self, now
        if not self.in_flight:
            self._busy_since = now
        self.in_flight[number] = request
        self._process.write(data)
        if self._timer is None:
            self._arm(now)
        if number == self._last:
            self.retire()

    def give_up(self, request: Request) -> None:
        """Abandon a request: it is cancelled if the child supports that."""
        if words := self._dialect.cancel(request.id):
            self._process.write(words)
        self._kill_if_hopeless()

    def allow(self, most: int) -> None:
        """Allow `most` requests in flight, within the negotiated maximum; a retired child stays retired."""
        if self.conversation is not None and not self._retired and self._verdict is None:
            self.capacity = min(most, self.conversation.max_in_flight)

    def retire(self) -> None:
        """Send no more requests; the child ends after its current ones."""
        self._retired = True
        self.capacity = 0
        if not self.in_flight:
            self._dismiss()

    def stop(self) -> None:
        """Close: an idle child may exit, any other is killed."""
        if self.in_flight or self.conversation is None:
            self._doom("crash", "the executor closed", blame=False)
        else:
            self.retire()

    def recycle_if_due(self, now: float) -> None:
        """Retire it if it is too old or too large."""
        config = self._config
        if self._retired or self.conversation is None:
            return
        too_old = config.recycle_after_s is not None and now - self.born_at >= config.recycle_after_s
        above = config.recycle_above_mib
        if too_old or (above is not None and self._process.resident_bytes() > above * 1024 * 1024):
            self.retire()

    # --- called by the process ------------------------------------------------------------------

    def on_output(self, data: bytes) -> None:
        """Handle its answers."""
        if self._verdict is not None:
            return  # output of a killed child does not count
        self.heard_at = now = time.monotonic()
        if self.conversation is None:
            self._open(data)
            return
        owner, in_flight, pid, limits = self._owner, self.in_flight, self._process.pid, self._limits
        try:
            for answer in self._dialect.feed(data):
                request = in_flight.get(answer.id)
                if request is None:
                    raise ProtocolError(_unasked(answer.id, self.sent))
                if answer.progress:
                    continue
                del in_flight[answer.id]
                if request.done is not None:
                    self.answered += 1
                    took_s = now - request.sent_at
                    caps, kernel, ok = limits[2:]
                    owner.settle(request, answered(request.task, answer, pid, took_s, caps, kernel, ok))
                elif self._overdue:
                    self._overdue.pop(answer.id, None)
        except ProtocolError as exc:
            self._doom("protocol", f"child {self.number} broke the protocol: {exc}")
            return
        if self._process.ended:
            self.capacity = 0
        owner.turned(self)
        self._kill_if_hopeless()

    def on_log(self, data: bytes) -> None:
        """Pass its log lines on."""
        self._pass_on(*self._log.feed(data))

    def _pass_on(self, lines: list[str], more: int) -> None:
        if lines:
            self._owner.logged(self, lines, more)

    def on_deaf(self) -> None:
        """Handle a closed pipe: the child ends, most likely; otherwise it is useless."""
        if self._verdict is None and not self._dismissed:
            self._retired = True
            self.capacity = 0
            what = f"child {self.number} closed its stdin or stdout and went on"
            self._loop.call_later(_LINGER_S, self._doom, "protocol", what)

    def on_end(self, exit_code: int) -> None:
        """Handle its end: its requests are lost."""
        self.capacity = 0
        self._pass_on(*self._log.end())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        child_exit = self._verdict
        if child_exit is None:
            ending = f"child {self.number} {_ending(exit_code)}"
            if met := limit_met(self._limits.kernel, exit_code, self._log.tail):
                ending += f", for it {met},"
            if self.conversation is None:
                child_exit = ChildExit(self._with_stderr_tail(f"{ending} before it was ready"), failed=True)
            elif self.in_flight:
                if held := self._dialect.held:
                    ending += f" in the middle of an answer ({held} bytes of it)"
                child_exit = ChildExit(
                    self._with_stderr_tail(f"{ending} with {_requests(len(self.in_flight))}"), failed=True
                )
            else:
                blame = not self._dismissed and (exit_code != 0 or self.answered == 0)
                child_exit = ChildExit(self._with_stderr_tail(ending) if blame else ending, blame)
            self._verdict = child_exit
            self._lose_all("crash", child_exit.reason)
        self.ended.set_result(child_exit._replace(answered=self.answered))

    # --- states ---------------------------------------------------------------------------------

    @property
    def _dialect(self) -> Codec:
        assert self.conversation is not None
        return self.conversation.dialect

    @property
    def _silent_since(self) -> float:
        return max(self.heard_at, self._busy_since)

    def _open(self, data: bytes) -> None:
        try:
            opened = self._opening.feed(data)
        except ProtocolError as exc:
            self._doom("protocol", f"child {self.number}: {exc}")
            return
        if opened is None:
            return
        self.conversation, rest = opened
        assert self._timer is not None
        self._timer.cancel()
        self._timer = None
        self.allow(self.conversation.max_in_flight)
        self._owner.ready(self)
        if rest:
            self.on_output(rest)

    def _not_ready(self) -> None:
        self._timer = None
        seconds = f"{self._config.start_timeout_s:g} s"
        self._doom("protocol", f"child {self.number} was not ready within {seconds}: {self._opening.hint}")

    def _arm(self, now: float) -> None:
        """Set the timer for the next timeout of its requests, or of its silence."""
        due = min((until for until in self._overdue.values() if until > now), default=float("inf"))
        oldest = next((request for number, request in self.in_flight.items() if number not in self._overdue), None)
        if oldest is not None:
            due = min(due, oldest.sent_at + self._limits.timeout_s)
        if self._config.idle_output_timeout_s is not None:
            due = min(due, self._silent_since + self._config.idle_output_timeout_s)
        if due < float("inf"):
            self._timer = self._loop.call_later(max(0.0, due - now), self.look_at_clock)

    def look_at_clock(self) -> None:
        """Handle all timeouts that are due; a timer calls it for the next one."""
        if self.conversation is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.in_flight or self._verdict is not None:
            return
        now = time.monotonic()
        idle_s = self._config.idle_output_timeout_s
        if idle_s is not None and now - self._silent_since >= idle_s:
            self._doom("timeout", f"child {self.number} wrote nothing for {idle_s:g} s", blame=False)
            return
        for request in list(self.in_flight.values()):
            if request.sent_at + self._limits.timeout_s > now:
                break
            if request.id not in self._overdue:
                self._expire(request, now)
        if any(until <= now for until in self._overdue.values()):
            self.retire()
        self._owner.turned(self)
        self._kill_if_hopeless()
        if self._verdict is None and self.in_flight:
            self._arm(now)

    def _expire(self, request: Request, now: float) -> None:
        """Handle the timeout of a request: it has ended, but the child may still be busy with it."""
        words = self._dialect.cancel(request.id)
        self._overdue[request.id] = now + self._limits.cancel_grace_s if words else now
        if words:
            self._process.write(words)
        if request.done is not None:
            self._owner.settle(
                request, timed_out(request.task, self._limits.timeout_s, self.pid, now - request.sent_at)
            )

    def _kill_if_hopeless(self) -> None:
        """Dismiss a retired child without requests, and kill one whose requests are all abandoned."""
        if not self._retired or self._verdict is not None:
            return
        if not self.in_flight:
            self._dismiss()
        elif all(request.done is None for request in self.in_flight.values()):
            self._doom("timeout", f"child {self.number} was killed, for its requests ran out of time", blame=False)

    def _dismiss(self) -> None:
        if not self._dismissed:
            self._dismissed = True
            self._process.end_input()
            self._loop.call_later(self._config.close_grace_s, self._process.kill)

    def _doom(self, kind: ErrorKind, reason: str, *, blame: bool = True) -> None:
        """Kill it; its requests fail with `reason`."""
        if self._verdict is not None:
            return
        self._verdict = ChildExit(self._with_stderr_tail(reason) if blame else reason, blame)
        self.capacity = 0
        self._process.kill()
        self._lose_all(kind, self._verdict.reason)

    def _lose_all(self, kind: ErrorKind, reason: str) -> None:
        lost = list(self.in_flight.values())
        self.in_flight.clear()
        now = time.monotonic()
        for request in lost:
            if request.done is not None:
                self._owner.settle(request, failed(request.task, kind, reason, self.pid, now - request.sent_at))
        self._owner.turned(self)

    def _with_stderr_tail(self, reason: str) -> str:
        return f"{reason}; its stderr ended with: {self._log.tail}" if self._log.tail else reason


def _unasked(number: int, sent: int) -> str:
    if 0 < number <= sent:
        return f"it answered request {number} a second time"
    return f"it answered request {number}, which it was never given"


def _requests(count: int) -> str:
    return "a request" if count == 1 else f"{count} requests"


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
