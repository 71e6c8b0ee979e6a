"""Scheduler: decides which of the simulated threads goes on, and when time passes. Every decision comes from the seed.

One thread works at a time. A simulated thread is an *actor*: a function that does one small piece of work. The reader's
thread is the outermost frame; while it waits, in `poll` or for a lock, the other actors work. An actor that releases a
lock may be interrupted there by another one, as the system's scheduler would do it. Threads that block in the middle of
their work are real ones (`threads.py`), which go on when it is their turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

from simulation.threads import Crash, SimulatedThread

__all__ = ["Actor", "Crash", "Scheduler", "Violation"]

_STEPS = (0.001, 0.01, 0.1)
_BURSTS = (1, 1, 1, 5, 30)  # steps of the others at an interruption
_IDLE_S = 0.5  # the longest jump while nothing is due: commits and checks of the reader depend on time alone
_MOST_STEPS = 60_000


class Violation(AssertionError):
    """An invariant does not hold."""


class Actor:
    """A simulated thread: `step` does one small piece of work and returns False if there was none."""

    __slots__ = ("is_busy", "is_ready", "step")

    def __init__(self, step: Callable[[], bool], is_ready: Callable[[], bool]) -> None:
        self.step = step
        self.is_ready = is_ready
        self.is_busy = False
        """True while it works, or is interrupted."""


class Scheduler:
    """Runs the actors of one process. `chance` is the seed's; `preempt` is the probability of an interruption."""

    def __init__(self, chance: random.Random, preempt: float) -> None:
        self.chance = chance
        self.now = 1_000.0
        """Monotonic time in seconds."""
        self.wall_offset_s = 1_800_000_000.0
        """Difference of the wall clock, which may step."""
        self.steps = 0
        self.changes = 0
        """Counts what may give an idle actor work: the work of another one, and the time that passes."""
        self.after_step: Callable[[], object] = bool
        """Called after each step: the invariants."""
        self.next_due: Callable[[], float] = lambda: inf
        """Returns the time of the next timer or event."""
        self.lines: list[str] | None = None
        """Timeline; None records none."""
        self.ended = False
        """True if the process has ended: no actor goes on."""
        self.violation: Violation | None = None
        """The first violation."""
        self.current: SimulatedThread | None = None
        """The thread whose turn it is; None for the scheduler's."""
        self._threads: list[SimulatedThread] = []
        self._preempt = preempt
        self._actors: list[Actor] = []
        self._locked = 0

    # --- timeline -------------------------------------------------------------------------------

    def note(self, text: str, *args: object) -> None:
        """Add a line to the timeline."""
        if self.lines is not None:
            self.lines.append(f"{self.now - 1000:10.4f}  {text.format(*args)}")

    def fail(self, invariant: str) -> Violation:
        """Return the violation of an invariant, to be raised; the first one is kept, whoever catches it."""
        self.note("VIOLATED: {}", invariant)
        self.violation = self.violation or Violation(invariant)
        self.ended = True
        return Violation(invariant)

    # --- actors ---------------------------------------------------------------------------------

    def begin(self, actors: list[Actor]) -> None:
        """Begin a process with these actors."""
        self._actors = list(actors)
        self._threads = []
        self._locked = 0
        self.ended = False

    def spawn(self, target: Callable[[], object]) -> None:
        """Start a thread of the process."""
        thread = SimulatedThread(self, target)
        self._threads.append(thread)
        self._actors.append(Actor(thread.step, thread.is_ready))

    def end(self) -> None:
        """End the threads of the process."""
        self.ended = True
        for thread in self._threads:
            thread.kill()

    def wake(self) -> None:
        """Note that there may be work again."""
        self.changes += 1

    def step(self) -> None:
        """Let one actor work, or let time pass."""
        if self.ended:
            return
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise self.fail(f"the flow comes to its end: it has not after {_MOST_STEPS} steps")
        ready = [actor for actor in self._actors if not actor.is_busy and actor.is_ready()]
        if not ready or self.chance.random() < 0.03:
            self._pass_time(idle=not ready)
        else:
            actor = ready[0] if len(ready) == 1 else self.chance.choice(ready)
            actor.is_busy = True
            try:
                if actor.step():
                    self.changes += 1
            finally:
                actor.is_busy = False
        self.after_step()

    def _is_idle(self) -> bool:
        return not any(not actor.is_busy and actor.is_ready() for actor in self._actors)

    def _pass_time(self, *, idle: bool) -> None:
        self.changes += 1
        if idle:
            due = min([self.next_due(), self.now + _IDLE_S, *[thread.deadline for thread in self._threads]])
            self.now = max(self.now, due) + 1e-6
        else:
            self.now += self.chance.choice(_STEPS)

    # --- waits and locks ------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Let the other actors work until `done`, or for `timeout_s` seconds of the simulated time."""
        if self.current is not None:
            held, self._locked = self._locked, 0
            found = done() or self.current.wait(done, timeout_s)
            self._locked = held
            return found
        self.changes += 1
        deadline = inf if timeout_s is None else self.now + timeout_s
        held, self._locked = self._locked, 0  # a thread that waits for a condition holds none
        while not done() and self.now < deadline and not self.ended:
            self.step()
        self._locked = held
        if self.ended:
            if not any(actor.is_busy for actor in self._actors):
                raise Crash
            self.now = max(self.now, deadline) if deadline < inf else self.now  # nor does an actor wait again
        return done()

    def acquired(self) -> None:
        """Note that an actor is in a critical section: no other one may interrupt it there."""
        self._locked += 1

    def released(self) -> None:
        """Note that an actor has left a critical section; another one may come first now."""
        self._locked -= 1
        self.interrupt()

    def interrupt(self) -> None:
        """Let another actor work here, sometimes."""
        if self._preempt and not self._locked and not self.ended and self.chance.random() < self._preempt:
            if self.current is not None:
                self.current.wait(lambda: True, 0.0)
                return
            self.changes += 1
            for _ in range(self.chance.choice(_BURSTS)):
                if self._is_idle():
                    break  # a thread that could go on is not kept waiting for long
                self.step()
