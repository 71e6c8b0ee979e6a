"""Trial: calls a failed hook again, record by record, to distinguish a mistake from bad data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drakkar_flow.kernel.brake import RECORDS_PER_FAILURE
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.failures import exception_cause
from drakkar_flow.runtime.hook_calls import HookCalls
from drakkar_flow.runtime.steps.proof import Proof

__all__ = ["Arguments", "Trial"]

Arguments = Callable[[Record], tuple[Any, ...]]
"""Arguments of the hook for a window of one record."""
ErrorOf = Callable[[Any, BaseException | None], BaseException | None]
"""Error of a call, which may be the value it returned."""
Done = Callable[[int], None]
"""Takes the number of calls that failed for the same cause, the first one included; 0 if one succeeded."""


class Trial:
    """Trials of one process, on the loop's thread. Their results are dropped.

    One bad record makes its whole window fail, as a mistake does. So when the failed records of a step that has never
    succeeded reach ten times `stop_after`, the step is tried on up to `stop_after` records of the window, one by one.
    `stop_after` 0 turns this off.
    """

    def __init__(self, stop_after: int, proof: Proof) -> None:
        self._stop_after = stop_after
        self._proof = proof
        self._failed: Counter[str] = Counter()

    def run(
        self,
        calls: HookCalls,
        step: str,
        hook: Callable[..., Any],
        records: Sequence[Record],
        error: BaseException,
        arguments: Arguments,
        error_of: ErrorOf,
        done: Done,
    ) -> None:
        """Call `hook` for single records, one after the other, until one succeeds; then `done`."""
        chosen = self._chosen(step, records)
        _Run(calls, self._proof, step, hook, chosen, exception_cause(error), arguments, error_of, done).call_next()

    def _chosen(self, step: str, records: Sequence[Record]) -> list[Record]:
        """Return records evenly spread over the window; none if no trial is needed."""
        if not self._stop_after or self._proof.mark(step):
            return []
        self._failed[step] += len(records)
        if len(records) == 1 or self._failed[step] < RECORDS_PER_FAILURE * self._stop_after:
            return []
        count = min(len(records), self._stop_after)
        return [records[number * len(records) // count] for number in range(count)]


@dataclass(slots=True)
class _Run:
    """The calls about one window."""

    calls: HookCalls
    proof: Proof
    step: str
    hook: Callable[..., Any]
    chosen: list[Record]
    cause: str
    arguments: Arguments
    error_of: ErrorOf
    done: Done
    failed: int = 1
    waits: bool = False
    """A call has not ended."""
    calling: bool = False

    def call_next(self) -> None:
        """Call until one waits. One that ends at once makes room inside the loop: that goes on here, not deeper."""
        if self.calling:
            return
        self.calling = True
        while self.chosen and not self.waits:
            self.waits = True
            record = self.chosen.pop()
            self.calls.call(self.hook, self.arguments(record), self._answered, [record])
        self.calling = False
        if not self.waits:
            self.done(self.failed)

    def _answered(self, value: Any, error: BaseException | None) -> None:
        self.waits = False
        error = self.error_of(value, error)
        if error is None:
            self.proof.add(self.step)
            self.failed = 0
            self.chosen.clear()
        else:
            self.failed += exception_cause(error) == self.cause
        self.call_next()
