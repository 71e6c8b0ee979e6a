"""Outcome of a flow in a test, and the queries of a test on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import UserKey
from drakkar_flow.observe.events.base import Event
from drakkar_flow.testing.cases import expectation
from drakkar_flow.testing.compare import differences

if TYPE_CHECKING:
    from drakkar_flow.testing.ack_log import Sent

__all__ = ["Outcome"]

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of a flow: payloads by sink id, committed offsets, dead letters, events, reason of its failure.

    `state` has the final values of keyed state as plain data, by step and key.
    """

    deliveries: dict[str, list[Any]]
    committed: dict[TopicPartition, int]
    dead_letters: list[Failure]
    events: list[Event]
    failure: str | None
    state: dict[str, dict[UserKey, Any]] = field(default_factory=dict)

    @property
    def values(self) -> list[Any]:
        """Data of every payload, sink by sink, in the order each sink wrote them."""
        return [payload.data for payloads in self.deliveries.values() for payload in payloads]

    def payloads(self, kind: str = "kafka", name: str = "", *, key: bytes | str | None = None) -> list[Any]:
        """Return the payloads written to one sink, with `key` those of that key.

        `name` may stay empty if there is one sink of its kind.

        Raises:
            AssertionError: there is no such sink, or several match.
        """
        wanted = f"{kind}-{name}"
        found = [sink_id for sink_id in self.deliveries if (sink_id == wanted if name else sink_id.startswith(wanted))]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} sinks match {kind!r} {name!r}; there are: {', '.join(self.deliveries)}")
        payloads = self.deliveries[found[0]]
        return [each for each in payloads if key is None or _text(getattr(each, "key", None)) == _text(key)]

    def letters(
        self, *, kind: str = "", stage: str = "", error: str = "", message: Sent | None = None
    ) -> list[Failure]:
        """Return the dead letters of a kind, of a step, with a part of the error, or of a message that was sent."""
        return [
            letter
            for letter in self.dead_letters
            if kind in ("", letter.kind)
            and stage in ("", letter.stage)
            and error in letter.error
            and (message is None or any(record.label == message.label for record, _ in letter.tokens))
        ]

    def of(self, kind: type[E], /, **fields: Any) -> list[E]:
        """Return the events of one type, in order; with `fields` those whose fields have these values.

        Raises:
            AttributeError: such events have no such field.
        """
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def check(self, **expected: Any) -> None:
        """Compare with an expectation, in the form of `expect:` in a YAML case: deliveries, dead_letters, ...

        Results that are not named are not compared, except dead letters and a failure: there must be none.

        Raises:
            AssertionError: the results differ; lists every difference.
            CasesError: the expectation is invalid.
        """
        if found := differences(expectation(**expected), self):
            raise AssertionError("\n".join(["the results differ from the expectation", *found]))


def _text(key: bytes | str | None) -> str | None:
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else key
