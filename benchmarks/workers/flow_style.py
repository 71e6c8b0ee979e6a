"""The same work as a flow."""

from __future__ import annotations

from benchmarks.workers.model import Reading, config, judge
from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, StreamingRunner

flow = StreamFlow("bench-flow", source=KafkaSource()).decode(Reading).map(judge).route(KafkaSink("results"))

if __name__ == "__main__":
    raise SystemExit(StreamingRunner.from_dict(flow, config()).run())
