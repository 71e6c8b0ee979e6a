"""Every exception the library raises.

```
DrakkarFlowError
├── ProblemsError            several problems reported at once
│   ├── ConfigError          the configuration is wrong            (exit code 2)
│   │   └── ConfigFileMissing   its file is not there; a FileNotFoundError too
│   ├── FlowError            the flow graph is wrong               (exit code 2)
│   │   └── FlowArgumentError    a node of it got a wrong argument; also a TypeError and a ValueError
│   └── StartupError         something outside is missing or down  (exit code 1 or 2)
├── DecodeError              a record's bytes do not fit its type
├── RoutingError             a payload names no sink, or more than one
├── ExecutorClosed           a task was handed to an executor that is closing
└── SinkError                a sink could not write
    ├── SinkNotConnected     connect() has not succeeded, or the connection is gone
    ├── SinkRejected         the target refused the payload; trying again is pointless
    ├── SinkMisconfigured    the target refuses every payload like it: missing table, missing rights
    ├── RetryAfter           the target asks to be left alone for delay_s
    └── BatchFailed          some payloads of a batch failed, by index
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BatchFailed",
    "ConfigError",
    "ConfigFileMissing",
    "DecodeError",
    "DrakkarFlowError",
    "ExecutorClosed",
    "FlowArgumentError",
    "FlowError",
    "MessageParseError",
    "Problem",
    "ProblemsError",
    "RetryAfter",
    "RoutingError",
    "SinkDeliveryFailedError",
    "SinkError",
    "SinkMisconfigured",
    "SinkNotConnected",
    "SinkRejected",
    "StartupError",
]


class DrakkarFlowError(Exception):
    """The root of every error this library raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, what to do about it.

    >>> print(Problem("pipeline.yaml:3:1 kafka.broker", "unknown key", "did you mean 'brokers'?"))
    pipeline.yaml:3:1 kafka.broker: unknown key; did you mean 'brokers'?
    """

    where: str
    what: str
    remedy: str = ""
    place: str = field(default="", compare=False)
    """`file:line` of the user's code; empty where `where` names the place."""

    @property
    def placed(self) -> str:
        """The whole problem with its place in the user's code in front.

        >>> Problem("step map", "3 can't be called", place="job.py:7").placed
        "job.py:7 step map: 3 can't be called"
        """
        return f"{self.place} {self}" if self.place else str(self)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.remedy}" if self.remedy else head


class ProblemsError(DrakkarFlowError):
    """Carries every problem found, so that a user fixes them in one go.

    `exit_code` is what a command that ends because of this error returns.
    """

    title = "problems"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self._text())

    def redact(self, redact: Callable[[str], str]) -> None:
        """Apply `redact` to every text, so that no secret is printed."""
        self.problems = tuple(
            Problem(redact(p.where), redact(p.what), redact(p.remedy), p.place) for p in self.problems
        )
        self.args = (self._text(),)

    def _text(self) -> str:
        return "\n".join([f"{self.title}:", *(f"  - {p.placed}" for p in self.problems)])


class ConfigError(ProblemsError):
    """Raised when the configuration can't be read or does not fit its schema."""

    title = "the configuration is not usable"


class ConfigFileMissing(ConfigError, FileNotFoundError):
    """Raised when the configuration's file does not exist."""


class FlowError(ProblemsError):
    """Raised when a flow graph can't be compiled."""

    title = "the flow is not usable"


class FlowArgumentError(FlowError, TypeError, ValueError):
    """Raised where a part of a flow is made with a wrong argument; the problems name the line of the user's code."""


class StartupError(ProblemsError):
    """Raised when what a flow needs from outside is missing (exit code 2) or unreachable (1)."""

    title = "the flow can't start"

    def __init__(self, problems: Sequence[Problem], *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(problems)


class DecodeError(DrakkarFlowError):
    """Raised when a record's value does not fit the type it is decoded to."""


MessageParseError = DecodeError
"""py-drakkar's name for it."""


class RoutingError(DrakkarFlowError):
    """Raised when a payload can't be matched with exactly one configured sink."""


class ExecutorClosed(DrakkarFlowError):
    """Raised by an executor that is asked to run a task while it closes."""


class SinkError(DrakkarFlowError):
    """Raised by a sink when a batch was not written; the whole batch may be tried again.

    Args:
        reason: what failed; stands in log lines, so it holds no values of rows and no words of the target's answer.
        detail: what the target answered; may quote rows. Only dead letters carry it (`dlq.include_server_detail`).
    """

    def __init__(self, reason: str = "", *, detail: str = "") -> None:
        self.detail = detail
        super().__init__(reason)


SinkDeliveryFailedError = SinkError
"""py-drakkar's name for it."""


class SinkNotConnected(SinkError):
    """Raised when the target can't be reached: before connect() succeeded, when the connection is lost, when nothing
    is answered in time."""


class SinkRejected(SinkError):
    """Raised when the target refused a payload for good: it is not tried again."""


class SinkMisconfigured(SinkError):
    """Raised when the target refuses the statement, whatever the values: a missing table or column, missing rights.

    The payload is not tried again and its neighbours are not searched for a bad one.

    Args:
        reason: what the target refused.
        remedy: what to change, in the target or in the configuration.
        detail: what the target answered, as for every SinkError.
    """

    def __init__(self, reason: str, remedy: str = "", *, detail: str = "") -> None:
        self.remedy = remedy
        super().__init__(f"{reason}; {remedy}" if remedy else reason, detail=detail)


class RetryAfter(SinkError):
    """Raised when the target asks for a pause of `delay_s` seconds before the next attempt."""

    def __init__(self, delay_s: float, reason: str, *, detail: str = "") -> None:
        self.delay_s = delay_s
        super().__init__(f"{reason}; retry after {delay_s:g} s", detail=detail)


class BatchFailed(SinkError):
    """Raised when some payloads of a batch failed; those not named were written.

    `failures` maps the index in the batch to its cause.
    """

    def __init__(self, failures: Mapping[int, Exception]) -> None:
        self.failures = dict(failures)
        first = next(iter(self.failures.values()), None)
        try:
            text = str(first)
        except Exception:  # the text of a broken value
            text = type(first).__name__
        super().__init__(f"{len(self.failures)} payloads of the batch failed; the first: {text}")
