"""Lesson 1: a flow without programs. Decode each record, change it, drop what is not wanted, send on the rest.

Every verb returns a new flow, and nothing runs until a flow is given to something that runs it. A record that can't
be decoded, or for which a function raises, becomes a dead letter; one that the filter drops is finished. Either way
its offset is committed, and never before.

    python -m examples.01_map                  try it, on a broker inside the process
    drakkar-flow graph examples/01_map.py      see it
"""

from pydantic import BaseModel

from drakkar_flow import KafkaSink, StreamFlow
from examples.playground import play


class Reading(BaseModel):
    """What a thermometer sends."""

    place: str
    celsius: float


def in_kelvin(reading: Reading) -> dict[str, float | str]:
    """Change the unit; plain functions run on the engine's thread, so they must not wait."""
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
