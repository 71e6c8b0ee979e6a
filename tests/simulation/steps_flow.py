"""Flows of single steps: state, division, calls that wait, two sinks, all of which fail now and then."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from drakkar_flow import StreamFlow
from drakkar_flow.graph.nodes import KafkaSource, SinkRef
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.record import Record
from simulation.facts import Facts, Place
from simulation.targets import Payload, chance_of

__all__ = ["steps_flow"]

_DELAYS_S = (0.0, 0.0, 0.001, 0.05, 1.0)


class _Functions:
    """The user's functions. What they do with a record depends on the record and the seed alone."""

    def __init__(self, facts: Facts, seed: int, sinks: list[str]) -> None:
        self._facts = facts
        self._seed = seed
        self._sinks = sinks
        self._chance = random.Random(f"delays {seed}")

    def _luck(self, place: Place, what: str) -> float:
        return chance_of(f"{self._seed} {place.partition} {place.offset} {what}")

    def _fail(self, payload: Payload, what: str) -> None:
        self._facts.turn(payload.places[0], payload.name, f"failure {payload.name}")
        raise ValueError(what)

    def decode(self, record: Record) -> Payload:
        """Begin the processing; some records can't be decoded."""
        place = Place.of(self._facts.life, record)
        self._facts.begin(place)
        if self._luck(place, "decode") < 0.04:
            raise ValueError("not a record")
        self._facts.turn(place, "record", "r")
        return Payload((place,), "r")

    def keep(self, payload: Payload) -> bool:
        """Drop some records."""
        kept = self._luck(payload.places[0], f"filter {payload.name}") > 0.08
        if not kept:
            self._facts.pay(payload.places[0], payload.name)
        return kept

    def counted(self, step: str) -> Any:
        """Return a function with state: the value of a key is the list of all that changed it."""

        def count(entries: list[str] | None, payload: Payload) -> tuple[list[str] | None, Payload | None]:
            place = payload.places[0]
            luck = self._luck(place, f"{step} {payload.name}")
            if luck < 0.04:
                self._fail(payload, "a failure before the change")
            if luck < 0.1:
                return entries, payload  # changes nothing
            if luck > 0.93 and entries is not None:  # removes the value
                self._facts.change(place, (f"stateful-{step}", self.key(payload)), "")
                return None, payload
            entry = f"{place.offset} {payload.name}"
            self._facts.change(place, (f"stateful-{step}", self.key(payload)), entry)
            if luck < 0.18:
                self._facts.pay(place, payload.name)  # the end of this share
                return [*(entries or []), entry], None
            return [*(entries or []), entry], payload

        return count

    def key(self, payload: Payload) -> str:
        """Return one of few keys, another one for each share."""
        return f"k{int(3 * self._luck(payload.places[0], f'key {payload.name}'))}"

    def divide(self, payload: Payload) -> list[Payload]:
        """Divide a record into none to three shares."""
        luck = self._luck(payload.places[0], f"divide {payload.name}")
        if luck < 0.04:
            self._fail(payload, "a failure of the division")
        count = (0, 1, 1, 2, 3)[int(5 * luck)]
        names = [f"{payload.name}.{number}" for number in range(count)]
        self._facts.turn(payload.places[0], payload.name, *names)
        return [Payload(payload.places, name) for name in names]

    def ordered(self, function: Any, ordering: str) -> Any:
        """Return a function that checks the order of its calls."""

        async def call(payload: Payload) -> Payload:
            place = payload.places[0]
            if ordering != "unordered":
                self._facts.start(function.__name__, place, place.offset % 3 if ordering == "key" else "")
            found: Payload = await function(payload)
            return found

        return call

    async def wait(self, payload: Payload) -> Payload:
        """Wait a while."""
        if delay_s := self._chance.choice(_DELAYS_S):
            await asyncio.sleep(delay_s)
        if self._luck(payload.places[0], f"wait {payload.name}") < 0.06:
            self._fail(payload, "a failure after a while")
        return payload

    async def ask(self, payload: Payload) -> Payload:
        """Wait a while, and owe a delivery to each sink."""
        await self.wait(payload)
        name = f"{payload.name}!"
        self._facts.turn(payload.places[0], payload.name, *(f"{name} to {sink}" for sink in self._sinks))
        return Payload(payload.places, name)

    def on_delivery_error(self, error: DeliveryError) -> str:
        """Decide about payloads that could not be delivered."""
        action = self._chance.choice(("retry", "retry", "skip", "dlq"))
        if action == "skip":
            for each in error.payloads:
                for place in each.data.places:
                    self._facts.pay(place, f"{each.data.name} to {error.sink_name}")
        return action


def steps_flow(facts: Facts, seed: int, chance: random.Random, sinks: list[str], *, has_state: bool) -> StreamFlow:
    """Return a flow of some of these steps."""
    does = _Functions(facts, seed, sinks)
    flow = StreamFlow("steps", source=KafkaSource("in")).decode(does.decode, with_record=True)
    if has_state:
        flow = flow.stateful(does.counted("first"), key=does.key, state=list[str], name="first")
    if chance.random() < 0.5:
        flow = flow.filter(does.keep)
    if chance.random() < 0.5:
        ordering = _ordering(chance)
        wait = does.ordered(does.wait, ordering)
        flow = flow.map_async(wait, max_in_flight=chance.choice((1, 3, 100)), ordering=ordering, name="w1")
    if chance.random() < 0.7:
        flow = flow.flat_map(does.divide)
    if has_state and chance.random() < 0.7:
        flow = flow.map_async(does.wait, max_in_flight=chance.choice((3, 100)), ordering=_ordering(chance), name="w2")
        flow = flow.stateful(does.counted("second"), key=does.key, state=list[str], name="second")
    flow = flow.map_async(does.ask, max_in_flight=chance.choice((1, 3, 100)), ordering=_ordering(chance))
    decides = does.on_delivery_error if chance.random() < 0.5 else None
    return flow.route(*(SinkRef("kafka", sink) for sink in sinks), on_delivery_error=decides)


def _ordering(chance: random.Random) -> Any:
    return chance.choice(("unordered", "key", "partition"))
