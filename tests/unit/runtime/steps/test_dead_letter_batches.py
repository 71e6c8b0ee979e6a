"""Dead letters of which some can't be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drakkar_flow import StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.model.outcome import Failure
from drakkar_flow.testing import FlowRun, MemoryDeadLetters, run_flow

LANE = ("input", 0)


class Picky(MemoryDeadLetters):
    """Refuses the letter of one offset, `refusals` times."""

    def __init__(self, offset: int, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals
        self._offset = offset

    async def write(self, failures: Sequence[Failure]) -> None:
        """Write all others."""
        refused = [index for index, failure in enumerate(failures) if _offset(failure) == self._offset]
        if not refused or self.refusals <= 0:
            await super().write(failures)
            return
        self.refusals -= 1
        await super().write([failure for index, failure in enumerate(failures) if index not in refused])
        raise BatchFailed({index: SinkRejected("no") for index in refused})


def _offset(failure: Failure) -> int:
    return failure.tokens[0][0].offset


def _fail(value: Any) -> None:
    raise ValueError(value)


FLOW = StreamFlow("fails").decode(int).map(_fail).route()


def test_letters_that_were_written_are_not_written_again() -> None:
    """Only the letter that failed is tried again, until it is written."""
    letters = Picky(offset=2, refusals=5)
    outcome = run_flow(FLOW, range(4), dead_letters=letters)
    assert [_offset(letter) for letter in outcome.dead_letters] == [0, 1, 3, 2]
    assert outcome.committed == {LANE: 4}


def test_a_letter_that_is_always_refused_holds_up_its_own_offset_only() -> None:
    """Letters that come later are written once; the offset of the refused one stays."""
    letters = Picky(offset=2, refusals=1 << 30)
    with FlowRun(FLOW, range(4), dead_letters=letters, open_end=True) as run:
        run.wait_until(lambda: letters.refusals < (1 << 30) - 3)
        run.reader.put([4])
        run.wait_until(lambda: len(letters.letters) == 4)
        assert [_offset(letter) for letter in letters.letters] == [0, 1, 3, 4]
        run.wait_until(lambda: run.reader.committed == {LANE: 2})


def test_a_letter_that_is_dropped_does_not_drop_the_others() -> None:
    """With `drop` the refused letter is given up after one try, the others are written."""
    letters = Picky(offset=2, refusals=1 << 30)
    outcome = run_flow(FLOW, range(4), dead_letters=letters, config=from_mapping({"dlq": {"on_failure": "drop"}}))
    assert [_offset(letter) for letter in outcome.dead_letters] == [0, 1, 3]
    assert outcome.committed == {LANE: 4}
