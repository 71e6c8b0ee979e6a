"""Launch gate: holds tasks whose program can't be started without their fault, and starts them later.

Two causes, two rules:

* The host has a shortage. Held tasks queue in arrival order. Only the first one tries: after a pause that doubles, or
  immediately when another program has ended and released its resources.
* The configured program or directory is unusable. A circuit breaker opens after a few failures in a row. Then one task
  after each cool-down probes. A missing program that the task names is the task's failure.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.executor.host_watch import HostWatch
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.breaker import Breaker, BreakerState

__all__ = ["HeldJob", "Hold", "LaunchGate", "NotStarted", "Refusal"]

FAILURES: Final = 5
COOLDOWN_S: Final = 1.0
_BACKOFF: Final = Backoff(initial_s=0.05, max_s=2.0)
_BUSY_S: Final = 10.0  # maximum wait for a task's program that is being written
_WOKEN_S: Final = 3600.0  # a wait that another thread ends

OnStarted = Callable[[], None]


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A failed start without the task's fault.

    `cause` is `host` (`lacks` names the resource), `program` (the configured program or directory is unusable), or
    `busy` (the task's program is being written).
    """

    reason: str
    cause: Literal["host", "program", "busy"]
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Final failure of a held task."""

    kind: Literal["launch_failure", "unavailable"]
    reason: str


class HeldJob(Protocol):
    """The task that a gate holds."""

    given_up: bool
    submitted_at: float
    is_configured: bool
    """True if it runs the configured program."""
    hold: Hold | None


class Hold:
    """A held task: time of its next attempt, and the event that wakes it earlier."""

    __slots__ = ("not_before", "ticket", "tries", "woken")

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.not_before = 0.0
        self.tries = 0
        self.ticket: int | None = None

    def nudge(self) -> None:
        self.not_before = 0.0
        self.woken.set()


class LaunchGate:
    """Blocks the calling thread until its task may be started; safe to use from many threads.

    `report(state, failures, reason)` is called when the breaker opens and closes, on the thread that caused it. With
    `patience_s` a held task fails after that many seconds without a started program.
    """

    def __init__(
        self, watch: HostWatch, report: Callable[[BreakerState, int, str], None], patience_s: float | None
    ) -> None:
        self.troubled = False
        """True if tasks must pass the gate before their start; read without the lock."""
        self._watch = watch
        self._report = report
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._breaker = Breaker(FAILURES, COOLDOWN_S)
        self._state: BreakerState = "closed"
        self._line: deque[Hold] = deque()
        self._holds: set[Hold] = set()
        self._served_at = 0.0
        self._reason = ""

    def run(
        self, job: HeldJob, first: NotStarted | None, attempt: Callable[[OnStarted], TaskOutcome | NotStarted]
    ) -> TaskOutcome | Refusal | None:
        """Call `attempt` until it returns a result; it must call its argument as soon as the program runs.

        `first` is an earlier failure. Returns None if the job was abandoned.
        """
        hold = job.hold = Hold()
        self._arrive(hold, first, job)
        began_at = time.monotonic()
        try:
            while (refusal := self._wait(hold, job)) is None and not job.given_up:
                outcome = attempt(lambda: self._started(hold, job))
                if not isinstance(outcome, NotStarted):
                    return outcome
                if outcome.cause == "busy" and time.monotonic() - began_at > _BUSY_S:
                    return Refusal("launch_failure", outcome.reason)
                self._failed(hold, job, outcome)
            return refusal
        finally:
            job.hold = None
            self._leave(hold)

    def freed(self) -> None:
        """React to the end of a program, which released resources: the first of the queue tries immediately."""
        with self._lock:
            if self._line:
                self._line[0].nudge()

    @staticmethod
    def wake(job: HeldJob) -> None:
        """Release an abandoned job."""
        if (hold := job.hold) is not None:
            hold.woken.set()

    # --- on the thread of a held job ------------------------------------------------------------

    def _arrive(self, hold: Hold, first: NotStarted | None, job: HeldJob) -> None:
        with self._lock:
            if not self.troubled:
                self.troubled = True
                self._served_at = time.monotonic()
            self._holds.add(hold)
            if self._line and first is None:
                self._line.append(hold)
        if first is not None:
            self._failed(hold, job, first)

    def _wait(self, hold: Hold, job: HeldJob) -> Refusal | None:
        """Wait until the job may try or is abandoned; after its patience, return its failure."""
        while True:
            hold.woken.clear()
            if job.given_up:
                return None
            now = time.monotonic()
            patience_s = _WOKEN_S
            if self._patience_s is not None:
                patience_s = max(job.submitted_at, self._served_at) + self._patience_s - now
                if patience_s <= 0:
                    reason = f"no program could be started for {self._patience_s:g} s: {self._reason}"
                    return Refusal("unavailable", reason)
            with self._lock:
                wait_s = self._wait_s(hold, job, now)
            if wait_s <= 0:
                return None
            hold.woken.wait(min(wait_s, patience_s))

    def _wait_s(self, hold: Hold, job: HeldJob, now: float) -> float:
        if hold in self._line and self._line[0] is not hold:
            return _WOKEN_S
        if hold.not_before > now:
            return hold.not_before - now
        if job.is_configured and hold.ticket is None:
            hold.ticket = self._breaker.admit(now)
            if hold.ticket is None:
                self._step_out(hold)
                return _WOKEN_S if (retry_at := self._breaker.retry_at) is None else max(retry_at - now, 0.001)
            self._note_state(self._reason)
        return 0.0

    def _started(self, hold: Hold, job: HeldJob) -> None:
        with self._lock:
            self._served_at = time.monotonic()
            self._step_out(hold)
            if job.is_configured:
                self._breaker.succeed(hold.ticket)
                hold.ticket = None
                self._note_state("a program was started")

    def _failed(self, hold: Hold, job: HeldJob, failure: NotStarted) -> None:
        with self._lock:
            now = time.monotonic()
            self._reason = failure.reason
            hold.tries += 1
            hold.not_before = now + _BACKOFF.delay_s(hold.tries, random.random)
            if failure.cause == "host":
                self._watch.report(failure.lacks, failure.reason)
                if hold not in self._line:
                    self._line.append(hold)
            else:
                self._step_out(hold)
            if failure.cause == "program":
                job.is_configured = True  # the directory is the configuration's, also for a program of the task
                self._breaker.fail(hold.ticket if hold.ticket is not None else self._breaker.admit(now), now)
            else:
                self._breaker.release(hold.ticket)
            hold.ticket = None
            self._note_state(failure.reason)

    def _leave(self, hold: Hold) -> None:
        with self._lock:
            self._step_out(hold)
            self._breaker.release(hold.ticket)
            self._note_state(self._reason)
            self._holds.discard(hold)
            self.troubled = bool(self._holds) or self._breaker.failures > 0

    # --- under the lock -------------------------------------------------------------------------

    def _step_out(self, hold: Hold) -> None:
        """Leave the queue; the next one tries immediately if this one was first."""
        if hold in self._line:
            was_first = self._line[0] is hold
            self._line.remove(hold)
            if was_first and self._line:
                self._line[0].nudge()

    def _note_state(self, reason: str) -> None:
        state = self._breaker.state
        if state == self._state:
            return
        if "closed" in (state, self._state):  # not for each probe in between
            self._report(state, self._breaker.failures, reason)
        self._state = state
        for hold in self._holds:
            if state == "closed":
                hold.not_before = 0.0
            hold.woken.set()
