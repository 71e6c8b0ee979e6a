"""Outcome of a flow in a test, and the questions a test asks about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.testing.cases import expectation
from drakkar_flow.testing.compare import differences

if TYPE_CHECKING:
    from drakkar_flow.testing.ack_log import Sent

__all__ = ["Outcome"]

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow did: payloads by sink id, committed offsets, dead letters, events, why it failed."""

    deliveries: dict[str, list[Any]]
    committed: dict[TopicPartition, int]
    dead_letters: list[Failure]
    events: list[Event]
    failure: str | None

    @property
    def values(self) -> list[Any]:
        """The data of every payload, sink by sink, in the order each sink wrote them."""
        return [payload.data for payloads in self.deliveries.values() for payload in payloads]

    def payloads(self, kind: str = "kafka", name: str = "", *, key: bytes | str | None = None) -> list[Any]:
        """The payloads written to one sink, with `key` those of that key.

        `name` may stay empty where there is one sink of its kind.

        Raises:
            AssertionError: when there is no such sink, or there are several to choose from.
        """
        wanted = f"{kind}-{name}"
        found = [sink_id for sink_id in self.deliveries if (sink_id == wanted if name else sink_id.startswith(wanted))]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} sinks fit {kind!r} {name!r}; there are: {', '.join(self.deliveries)}")
        payloads = self.deliveries[found[0]]
        return [each for each in payloads if key is None or _text(getattr(each, "key", None)) == _text(key)]

    def letters(
        self, *, kind: str = "", stage: str = "", error: str = "", message: Sent | None = None
    ) -> list[Failure]:
        """The dead letters of a kind, of a step, with a part of the error, or of a message that was sent."""
        return [
            letter
            for letter in self.dead_letters
            if kind in ("", letter.kind)
            and stage in ("", letter.stage)
            and error in letter.error
            and (message is None or any(record.label == message.label for record, _ in letter.tokens))
        ]

    def of(self, kind: type[E], /, **fields: Any) -> list[E]:
        """The events of one type, in order; with `fields` those whose fields have these values.

        Raises:
            AttributeError: when such events have no such field.
        """
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def check(self, **expected: Any) -> None:
        """Compare with what is expected, said as in `expect:` of a YAML case: deliveries, dead_letters, committed, ...

        What is not named is not looked at, but for dead letters and a failure: there must be none.

        Raises:
            AssertionError: with every difference, line by line.
            CasesError: when the expectation itself is wrong.
        """
        if found := differences(expectation(**expected), self):
            raise AssertionError("\n".join(["not as expected", *found]))


def _text(key: bytes | str | None) -> str | None:
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else key
