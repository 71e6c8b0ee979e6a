"""Lesson 8: a worker is killed (kill -9) three times while it counts, and the counts are exact.

The worker is a process. Its recovery store keeps position and counts of each partition as one value on disk. What it
was doing when it was killed is read again: the state is then as it was before, and each visit counts once. Results of
these visits are delivered again. `make demo ARGS=--state` does the same with a cluster.

    python -m examples.08_killed
"""

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from drakkar_flow import KafkaSink, KafkaSource, StreamFlow
from examples.playground import Counts, embedded_broker, send

USERS = ["anna", "bert", "cleo", "dora", "emil", "otto"]


class Visit(BaseModel):
    """A user opened a page; `number` counts the visits of the user."""

    user: str
    number: int = 0


def count(visits: int | None, visit: Visit) -> tuple[int, Visit]:
    """Return the next state of the user and the output."""
    number = (visits or 0) + 1
    return number, visit.model_copy(update={"number": number})


async def look_up(visit: Visit) -> Visit:
    """Take a while, as a lookup would: a kill hits visits that are counted, but not delivered."""
    await asyncio.sleep(0.02)
    return visit


flow = (
    StreamFlow("visits", source=KafkaSource())
    .decode(Visit)
    .stateful(count, key=lambda visit: visit.user, state=int, name="visits")
    .map_async(look_up, max_in_flight=20)
    .route(KafkaSink("counted"))
)


def settings(brokers: str, **others: str) -> list[str]:
    """Arguments of `drakkar-flow run`: the settings that a file would have."""
    given = {
        "kafka.brokers": brokers,
        "kafka.source_topic": "visits",
        "kafka.consumer_group": "visits",
        "sinks.kafka.counted.topic": "visits-counted",
        "metrics.enabled": "false",
        "logging.level": "ERROR",
        **others,
    }
    return [text for key, value in given.items() for text in ("--set", f"{key}={value}")]


def main(visits: int = 3000, kills: int = 3) -> int:
    """Write the visits, kill the worker each time it has counted some more, and compare; 1 if a count is wrong."""
    written = random.Random(1).choices(USERS, k=visits)
    with embedded_broker() as brokers, TemporaryDirectory() as directory:
        send(brokers, "visits", (json.dumps({"user": user}).encode() for user in written), written)
        options = settings(brokers, **{"runtime.recovery.dir": f"{directory}/store"})
        command = [sys.executable, "-m", "drakkar_flow", "run", __file__, *options]
        with Counts(brokers, "visits-counted") as counts:
            for life in range(1, kills + 1):
                with subprocess.Popen(command) as worker:
                    counts.until(visits * life // (kills + 1), worker)
                    worker.kill()
                print(f"killed at {counts.total:,} of {visits:,} visits; starts again")
            with subprocess.Popen(command) as worker:
                counts.until(visits, worker)
                worker.terminate()
            counts.look()
    print(f"{counts.total:,} of {visits:,} visits counted; results delivered: {counts.messages:,}")
    for user, number in sorted(Counter(written).items()):
        print(f"  {user}: {number} visits, {counts.of.get(user, 0)} counted")
    return 0 if counts.of == Counter(written) else 1


if __name__ == "__main__":
    raise SystemExit(main())
