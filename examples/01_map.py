"""Lesson 1: a flow without programs. Decode each record, transform it, drop some, deliver the rest.

Every verb returns a new flow. Nothing runs until a runner gets the flow. A record that can't be decoded, or for
which a function raises, becomes a dead letter. A record that the filter drops is finished. Both are committed then,
never before.


    python -m examples.01_map                  run it on an in-process broker
    drakkar-flow graph examples/01_map.py      draw it
"""

from pydantic import BaseModel

from drakkar_flow import KafkaSink, StreamFlow
from examples.playground import play


class Reading(BaseModel):
    """A measurement of a thermometer."""

    place: str
    celsius: float


def in_kelvin(reading: Reading) -> dict[str, float | str]:
    """Convert the unit. Plain functions run on the engine thread, so they must not wait."""
    return {"place": reading.place, "kelvin": round(reading.celsius + 273.15, 2)}


flow = (
    StreamFlow("thermometers")
    .decode(Reading)
    .filter(lambda reading: reading.place != "test", name="real")
    .map(in_kelvin)
    .route(KafkaSink("kelvin"))
)

CONFIG = {
    "kafka": {"source_topic": "readings", "consumer_group": "thermometers"},
    "sinks": {"kafka": {"kelvin": {"topic": "readings-kelvin"}}},
}
INPUTS = [
    b'{"place": "roof", "celsius": 21.5}',
    b'{"place": "test", "celsius": 0}',
    b'{"place": "cellar", "celsius": 11}',
    b"a burst pipe",
]

if __name__ == "__main__":
    raise SystemExit(play(flow, CONFIG, INPUTS))
