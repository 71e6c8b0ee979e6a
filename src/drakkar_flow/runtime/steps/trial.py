"""Trial: calls a hook that raised for a window again, record by record, to tell a mistake from bad data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from drakkar_flow.kernel.brake import RECORDS_PER_FAILURE
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.calls import Calls
from drakkar_flow.runtime.failures import exception_cause
from drakkar_flow.runtime.steps.proof import Proof

__all__ = ["Trial"]

Arguments = Callable[[Record], tuple[Any, ...]]
"""Arguments of the hook for a window of one record."""
Judge = Callable[[Any, BaseException | None], BaseException | None]
"""Error of a call, which may be the value it returned."""
Done = Callable[[int], None]
"""Takes the number of calls that failed for the same cause, the first one included; 0 where one succeeded."""


class Trial:
    """One per process, on the loop's thread. What the calls return is dropped.

    One bad record makes its whole window fail, as a mistake does. So when the failed records of a step that has never
    succeeded reach ten times `stop_after`, the step is tried on up to `stop_after` records of the window, one by one.
    `stop_after` 0 turns this off.
    """

    def __init__(self, stop_after: int) -> None:
        self._stop_after = stop_after
        self._failed: Counter[str] = Counter()

    def run(
        self,
        calls: Calls,
        proof: Proof,
        step: str,
        hook: Callable[..., Any],
        records: Sequence[Record],
        error: BaseException,
        arguments: Arguments,
        judge: Judge,
        done: Done,
    ) -> None:
        """Call `hook` for single records, one after the other, until one succeeds; then `done`."""
        cause, failed = exception_cause(error), 1
        chosen = self._chosen(proof, step, records)

        def try_next() -> None:
            if chosen:
                record = chosen.pop()
                calls.call(hook, arguments(record), answered, [record])
            else:
                done(failed)

        def answered(value: Any, error: BaseException | None) -> None:
            nonlocal failed
            error = judge(value, error)
            if error is None:
                proof.add(step)
                done(0)
                return
            failed += exception_cause(error) == cause
            try_next()

        try_next()

    def _chosen(self, proof: Proof, step: str, records: Sequence[Record]) -> list[Record]:
        """Records evenly spread over the window; none where nothing is to be found out."""
        if not self._stop_after or proof.mark(step):
            return []
        self._failed[step] += len(records)
        if len(records) == 1 or self._failed[step] < RECORDS_PER_FAILURE * self._stop_after:
            return []
        count = min(len(records), self._stop_after)
        return [records[number * len(records) // count] for number in range(count)]
