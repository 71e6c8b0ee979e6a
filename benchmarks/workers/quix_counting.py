"""The same count for Quix Streams 3, with its RocksDB store; run by a Python that has it, never imported by us."""
# mypy: ignore-errors

from __future__ import annotations

import os

from quixstreams import Application

app = Application(
    broker_address=os.environ["BENCH_KAFKA"],
    consumer_group=os.environ["BENCH_GROUP"],
    auto_offset_reset="earliest",
    commit_interval=1.0,
    consumer_extra_config={"group.instance.id": "only"},  # a restart need not wait until its killed self has timed out
    state_dir=os.environ["BENCH_STORE"],
    processing_guarantee=os.environ["BENCH_GUARANTEE"],
    loglevel="WARNING",
)


def count(reading, state):
    number = state.get("count", 0) + 1
    state.set("count", number)
    return {
        "id": reading["id"],
        "name": reading["name"],
        "total": reading["score"] * 2,
        "sent_at": reading["sent_at"],
        "count": number,
    }


source = app.topic(os.environ["BENCH_SOURCE"], value_deserializer="json")
output = app.topic(os.environ["BENCH_OUTPUT"], value_serializer="json")
app.dataframe(source).apply(count, stateful=True).to_topic(output)

if __name__ == "__main__":
    app.run()
