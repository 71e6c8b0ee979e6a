"""Failure brake: holds failures back while they may be a mistake, and stops the flow when they are one."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Hashable, Iterable

from drakkar_flow.kernel.brake import Brake, Cause
from drakkar_flow.model.outcome import Blame, Failure, FailureKind
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import LIBRARY, brake_cause
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["FailureBrake"]

_CHECK_S = 0.25  # the longest time between two checks of held failures
_FORGET_S = 600.0  # after so long without another, a failure begins a new run
_SLACK_S = 1e-6  # a timer may be early by so much
_CAUSES = 1000  # partitions whose last failure is remembered
_ERROR = 500  # characters of an error in the reason

Settle = Callable[[list[Failure]], None]


class FailureBrake:
    """Holds failures of one process back. A held failure is no dead letter, and its records keep their credit.

    A run of a cause (`kernel.brake`) is held until one of three things happens:

    - Its step succeeds.
    - No more failures of the cause come for `hold_s` seconds.
    - The cause is a mistake: the flow fails and the failures stay held.

    An orderly stop releases held failures; a revoke leaves them to the partition's next owner. With `brake` None
    nothing is held. All methods but `proof.add` are called on the loop's thread.
    """

    def __init__(
        self, loop_thread: EventLoopThread, in_flight: InFlight, control: StopSignal, brake: Brake | None, hold_s: float
    ) -> None:
        self._loop_thread = loop_thread
        self._in_flight = in_flight
        self._control = control
        self._brake = brake
        self._hold_s = hold_s
        self._check_s = min(_CHECK_S, hold_s)
        self._lock = threading.Lock()
        self._held: dict[Cause, list[tuple[Failure, Settle]]] = {}
        self._last: dict[Cause, float] = {}
        self._due: dict[Cause, float] = {}
        self._stopped = False
        self._check_planned = False
        self.proof = Proof(self._succeeded)

    def admit(self, failures: list[Failure], settle: Settle) -> list[Failure]:
        """Count failures; returns those that may be settled now. `settle` is called with the others later, or never."""
        if self._brake is None:
            return failures
        admitted: list[Failure] = []
        for failure in failures:
            cause = brake_cause(failure)
            if failure.blame is not Blame.OUTAGE and self._suspects(self._brake, cause, failure):
                self._hold(cause, failure, settle)
            else:
                admitted.append(failure)
        return admitted

    def _suspects(self, brake: Brake, cause: Cause, failure: Failure) -> bool:
        """Count a failure; returns True if it may be a mistake."""
        now, in_flight = asyncio.get_running_loop().time(), self._in_flight
        since = now - self._last.pop(cause, now)
        self._last[cause] = now
        if len(self._last) > _CAUSES:
            del self._last[next(iter(self._last))]
        with self._lock:
            if since > _FORGET_S:
                brake.forget(cause)
            mark = self.proof.doubt(cause.step)
            refuted = failure.refuted or (failure.mark is not None and mark > failure.mark)
            places = _places([failure])
            seen = {"finished": in_flight.finished, "in_flight": in_flight.records}
            brake.fail(cause, places, failures=failure.calls, refuted=refuted, **seen)
            return brake.suspects(cause)

    def _hold(self, cause: Cause, failure: Failure, settle: Settle) -> None:
        self._in_flight.set_aside(record for record, _ in failure.tokens)
        if self._stopped:
            self._control.hold(record for record, _ in failure.tokens)
            return
        self._held.setdefault(cause, []).append((failure, settle))
        self._check_later()

    def _succeeded(self, step: Hashable) -> None:
        if self._brake is not None:
            with self._lock:
                self._brake.succeed(step)
            if self._held:
                self._loop_thread.post(self._check_held)

    def _check_later(self) -> None:
        if not self._check_planned:
            self._check_planned = True
            asyncio.get_running_loop().call_later(self._check_s, self._loop_thread.guard, self._check_again)

    def _check_again(self) -> None:
        self._check_planned = False
        self._check_held()
        if self._held:
            self._check_later()

    def _check_held(self) -> None:
        now = asyncio.get_running_loop().time()
        for cause in list(self._held):
            match self._verdict(cause, now):
                case "mistake":
                    self._stop(cause)
                    return
                case "over":
                    self._let_go(cause, lambda _failure: True)
                case _ if self._in_flight.has_fences:
                    self._let_go(cause, self._is_fenced)

    def _verdict(self, cause: Cause, now: float) -> str:
        """Return the verdict on a cause: it is a mistake, its suspicion is over, or neither is known.

        A mistake is believed one check later: a success that was under way would have refuted it by then.
        """
        assert self._brake is not None
        with self._lock:
            suspected, stops = self._brake.suspects(cause), self._brake.stops(cause)
        if not suspected:
            return "over"
        if stops:
            since = self._due.setdefault(cause, now)
            return "mistake" if now - since >= self._check_s / 2 - _SLACK_S else ""
        return "over" if self._in_flight.ending or now - self._last.get(cause, 0.0) >= self._hold_s - _SLACK_S else ""

    def _let_go(self, cause: Cause, wanted: Callable[[Failure], bool]) -> None:
        held = self._held.pop(cause)
        self._due.pop(cause, None)
        if kept := [pair for pair in held if not wanted(pair[0])]:
            self._held[cause] = kept
        for failure, settle in held:
            if wanted(failure):
                self._in_flight.take_back(record for record, _ in failure.tokens)
                settle([failure])

    def _stop(self, cause: Cause) -> None:
        """Fail the flow; held failures keep their credit, so none of their offsets is committed."""
        assert self._brake is not None
        failures = [failure for failure, _ in self._held[cause]]
        with self._lock:
            count, by_record = self._brake.count(cause), self._brake.exceeds_ratio(cause)
        kept = len(_places(failures)) if by_record else sum(failure.calls for failure in failures)
        first = min(failures, key=_read_at)  # tasks fail in any order
        for held in self._held.values():
            self._control.hold(record for failure, _ in held for record, _ in failure.tokens)
        self._held.clear()
        self._stopped = True
        self._control.fail(_reason(first, count, kept))

    def _is_fenced(self, failure: Failure) -> bool:
        return all(self._in_flight.is_fenced(record) for record, _ in failure.tokens)


def _places(failures: Iterable[Failure]) -> set[tuple[str, int, int]]:
    """Return the distinct records of failures."""
    return {(record.topic, record.partition, record.offset) for failure in failures for record, _ in failure.tokens}


def _read_at(failure: Failure) -> tuple[float, int]:
    record = failure.tokens[0][0]
    return record.read_at, record.offset


_REMEDIES = {
    FailureKind.DECODE: "compare the type given to decode with the values of the topic",
    FailureKind.TASK: "run the program by hand with a task's arguments",
    FailureKind.ARRANGE: "fix arrange",
    FailureKind.HOOK: "fix the hook",
    FailureKind.BUSINESS: "fix the function",
    FailureKind.LATE: "raise allowed_lateness_s, or look for a record whose time is in the future",
    FailureKind.SINK: "fix the target or the payloads written to it",
    FailureKind.ROUTING: "fix the route or the payload",
}
_UNSTARTED = "install the program, or correct the task's binary_path or executor"
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


def _reason(first: Failure, count: int, held: int) -> str:
    """Return one line: the cause, the count, the first record, the fix, and the setting that turns the brake off.

    `first` is the first of the `held` failures. Those before them were settled: the brake did not suspect them yet, or
    no more.
    """
    record = first.tokens[0][0]
    what = f"{first.stage} failed {count} times with one cause, first at {record.label}"
    left = "none of them is committed or a dead letter"
    if held < count:
        what = f"{first.stage} failed {count} times with one cause, the last {held} times from {record.label} on"
        left = f"the last {held} are neither committed nor dead letters, the {count - held} before are dead or skipped"
    unstarted = first.kind is FailureKind.TASK and first.blame is Blame.FLOW
    return (
        f"the brake: {what}: "
        f"{' '.join(first.error.split())[:_ERROR]}{_raised_at(first)}; "
        f"{_UNSTARTED if unstarted else _REMEDIES[first.kind]}, then start again: "
        f"{left}; dlq.stop_after: 0 turns the brake off"
    )


def _raised_at(failure: Failure) -> str:
    """Return the class of an exception and the line of the user's function; empty if neither is known."""
    for file, line in _FRAME.findall(failure.stacktrace):
        if not file.startswith((LIBRARY, "<")):
            place = f"{file}:{line}"
            return "" if place in failure.error else f" ({failure.exception_class.rpartition('.')[2]} at {place})"
    return ""
