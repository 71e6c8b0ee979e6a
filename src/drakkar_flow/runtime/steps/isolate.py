"""Isolation: writes a batch that failed as a whole in parts, so that only its bad payloads fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from drakkar_flow.kernel.bisection import Bisection
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.runtime.steps.fates import Fates

__all__ = ["isolated"]

_HOPELESS = 2
"""Payloads that failed alone while none was written: the target fails, not a payload."""


async def isolated(
    write: Callable[[list[Delivery]], Awaitable[Fates]], failed: Fates, may_go_on: Callable[[list[Delivery]], bool]
) -> Fates:
    """Find the bad payloads of a write that failed without naming them; all others are written once.

    The search ends early, and returns the rest in `again`, when the target itself fails or when `may_go_on` returns
    False. It is called before each write with the remaining deliveries.

    Args:
        write: writes payloads, settles finished ones, and returns the fates of all of them.
        failed: the fates of the write that failed.
        may_go_on: returns True if the search goes on.
    """
    search = Bisection(failed.again)
    done: list[Delivery] = []
    again: list[Delivery] = []
    refused = list(failed.refused)
    error, causes = failed.error, dict(failed.causes)
    while (trial := search.trial) and may_go_on(search.open):
        fates = await write(trial)
        error = fates.error or error
        causes |= fates.causes
        if fates.target:
            break
        if fates.suspect:
            search.bad()
            continue
        if len(trial) == 1 and fates.error is not None:
            causes.setdefault(id(trial[0]), fates.error)
        done += fates.done
        again += fates.again
        refused += fates.refused
        if len(trial) == 1 and not fates.done:
            search.bad()
        else:
            search.good()
        if not done and len(again) >= _HOPELESS:
            break
    return Fates(done, again + search.open, refused, error, proved=bool(done) and not search.open, causes=causes)
