"""HTTP answers: blame of a failed status on the payload, the target or the settings. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from drakkar_flow.errors import RetryAfter, SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected

__all__ = ["failure_of_answer", "is_stale"]

_NOT_NOW = frozenset({408, 421, 425, 429, 502, 503, 504})
"""Statuses by which a server asks for time or reports that another one is right (RFC 9110, 6585, 8470)."""
_WRONG_SERVER = frozenset({421, *range(500, 600)})
"""Statuses after which the connection is not used again: it may lead to a server that was replaced."""
_REMEDIES = {
    401: "check the login in the url or the headers",
    403: "check the rights of the login in the url or the headers",
    404: "check the path of the url",
    405: "check the method",
    407: "check the login at the proxy",
    410: "check the url",
    415: "check the encoding and the content type",
    501: "check the method",
    505: "check the url",
}
"""Statuses that every payload would get, and the setting of `sinks.http.*` to change."""
_LONGEST_PAUSE_S = 300.0


def failure_of_answer(status: int, retry_after: str, detail: str) -> SinkError:
    """Return the error of a status that is no success.

    | Status | Error |
    | --- | --- |
    | 401, 403, 404, 405, 407, 410, 415, 501, 505 | `SinkMisconfigured`: every payload would get it |
    | 429, 503 and others with `Retry-After` | `RetryAfter` |
    | 408, 421, 425, 429, 502, 503, 504 | `SinkNotConnected`: tried again |
    | other 5xx | `SinkError`: tried again |
    | all others, redirects included | `SinkRejected`: the payload |

    >>> failure_of_answer(404, "", "")
    SinkMisconfigured('HTTP: the answer was 404 Not Found; check the path of the url')
    """
    text = f"HTTP: the answer was {_named(status)}"
    if status in _REMEDIES:
        return SinkMisconfigured(text, _REMEDIES[status], detail=detail)
    if status not in _NOT_NOW and status < 500:
        return SinkRejected(text, detail=detail)
    pause_s = _pause_s(retry_after)
    if pause_s is not None:
        return RetryAfter(pause_s, text, detail=detail)
    return SinkNotConnected(text, detail=detail) if status in _NOT_NOW else SinkError(text, detail=detail)


def is_stale(status: int) -> bool:
    """Return True if the connection may lead to a server that is not the right one any more."""
    return status in _WRONG_SERVER


def _named(status: int) -> str:
    """Return a status with its registered phrase; a server may send any other phrase.

    >>> _named(404), _named(799)
    ('404 Not Found', '799')
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _pause_s(retry_after: str) -> float | None:
    """Return the seconds until the time of a `Retry-After` header; None if it has no valid time."""
    try:
        if retry_after.strip().isdecimal():
            pause_s = float(retry_after)
        else:
            pause_s = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(pause_s, 0.0), _LONGEST_PAUSE_S)
