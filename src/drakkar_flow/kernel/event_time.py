"""Event time: what a user's function returns as the time of a record, in whole ms. Pure."""

from __future__ import annotations

from datetime import datetime
from math import isfinite

__all__ = ["event_ms"]


def event_ms(time: object, where: str) -> int:
    """Return seconds since the epoch, or a datetime with a time zone, in ms; `where` names the step for the error.

    >>> event_ms(1.5, "join")
    1500

    Raises:
        TypeError: it is neither.
    """
    if isinstance(time, datetime) and time.tzinfo is not None:
        time = time.timestamp()
    if (type(time) is not float and type(time) is not int) or not isfinite(time):
        what = "seconds since the epoch or a datetime with a time zone"
        raise TypeError(f"the time function of {where} must return {what}, not {time!r:.80}")
    return round(time * 1000)
