"""Exceptions of the library.

```
DrakkarFlowError
├── ProblemsError            several problems reported at once
│   ├── ConfigError          invalid configuration                  (exit code 2)
│   │   └── ConfigFileMissing   configuration file not found; also a FileNotFoundError
│   ├── FlowError            invalid flow                           (exit code 2)
│   │   └── FlowArgumentError    a node got an invalid argument; also a TypeError and a ValueError
│   └── StartupError         a dependency is unreachable or missing (exit code 1 or 2)
├── DecodeError              a record's bytes do not fit its type
├── RoutingError             a payload matches no sink, or more than one
├── StateError               a value or a key of keyed state can't be read or written
├── ExecutorClosed           a task was submitted to an executor that is closing
└── SinkError                a sink could not write
    ├── SinkNotConnected     connect() has not succeeded, or the connection was lost
    ├── SinkRejected         the target refused the payload; a retry would not help
    ├── SinkMisconfigured    the target refuses every such payload: missing table, missing rights
    ├── RetryAfter           the target asks for a pause of delay_s
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
    "StateError",
]


class DrakkarFlowError(Exception):
    """Base class of every error that this library raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its place, what is wrong, and how to fix it.

    >>> print(Problem("pipeline.yaml:3:1 kafka.broker", "unknown key", "did you mean 'brokers'?"))
    pipeline.yaml:3:1 kafka.broker: unknown key; did you mean 'brokers'?
    """

    where: str
    what: str
    remedy: str = ""
    place: str = field(default="", compare=False)
    """`file:line` of the user's code; empty if `where` names the place."""

    @property
    def placed(self) -> str:
        """The problem as text, preceded by its place in the user's code.

        >>> Problem("step map", "3 can't be called", place="job.py:7").placed
        "job.py:7 step map: 3 can't be called"
        """
        return f"{self.place} {self}" if self.place else str(self)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.remedy}" if self.remedy else head


class ProblemsError(DrakkarFlowError):
    """Raised with every problem that was found, so that all can be fixed at once.

    `exit_code` is the exit code of a command that this error ends.
    """

    title = "problems"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self._text())

    def redact(self, redact: Callable[[str], str]) -> None:
        """Apply `redact` to every text, to remove secrets."""
        self.problems = tuple(
            Problem(redact(p.where), redact(p.what), redact(p.remedy), p.place) for p in self.problems
        )
        self.args = (self._text(),)

    def _text(self) -> str:
        return "\n".join([f"{self.title}:", *(f"  - {p.placed}" for p in self.problems)])


class ConfigError(ProblemsError):
    """Raised when the configuration can't be read or does not fit its schema."""

    title = "invalid configuration"


class ConfigFileMissing(ConfigError, FileNotFoundError):
    """Raised when the configuration file does not exist."""


class FlowError(ProblemsError):
    """Raised when a flow graph can't be compiled."""

    title = "invalid flow"


class FlowArgumentError(FlowError, TypeError, ValueError):
    """Raised when a part of a flow gets an invalid argument; the problems name the line of the user's code."""


class StartupError(ProblemsError):
    """Raised when a dependency of a flow is missing (exit code 2) or unreachable (exit code 1)."""

    title = "the flow can't start"

    def __init__(self, problems: Sequence[Problem], *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(problems)


class DecodeError(DrakkarFlowError):
    """Raised when a record's value does not fit the type it is decoded to."""


MessageParseError = DecodeError
"""py-drakkar's name for `DecodeError`."""


class RoutingError(DrakkarFlowError):
    """Raised when a payload does not match exactly one configured sink."""


class StateError(DrakkarFlowError):
    """Raised when a value or a key of keyed state can't be read or written."""


class LateRecord(DrakkarFlowError):
    """Raised for a record of which all windows of event time are passed."""


class ExecutorClosed(DrakkarFlowError):
    """Raised by an executor that gets a task while it closes."""


class SinkError(DrakkarFlowError):
    """Raised by a sink when a batch was not written; the whole batch may be retried.

    Args:
        reason: the failure, without values of rows and without the target's answer, because it is logged.
        detail: the target's answer; may quote rows. Only dead letters contain it (`dlq.include_server_detail`).
    """

    def __init__(self, reason: str = "", *, detail: str = "") -> None:
        self.detail = detail
        super().__init__(reason)


SinkDeliveryFailedError = SinkError
"""py-drakkar's name for `SinkError`."""


class SinkNotConnected(SinkError):
    """Raised when the target can't be reached: before `connect` succeeded, after a lost connection, or on a timeout."""


class SinkRejected(SinkError):
    """Raised when the target permanently refused a payload; it is not retried."""


class SinkMisconfigured(SinkError):
    """Raised when the target refuses the statement with any values: a missing table or column, missing rights.

    The payload is not retried, and its batch is not bisected. `reason` is the refusal, `remedy` how to fix the target
    or the configuration, `detail` the target's answer as in every `SinkError`.
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
        except Exception:  # the error's __str__ raised
            text = type(first).__name__
        super().__init__(f"{len(self.failures)} payloads of the batch failed; first error: {text}")
