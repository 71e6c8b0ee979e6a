"""Lesson 5: a flow inside another program, which keeps its signals, logging and main thread.

`StreamingRunner.from_dict` takes the settings as data and reads neither files nor the environment. With
`own_signals=False` and `own_logging=False` it leaves both to you; its log lines go through structlog. `run` blocks, so
it gets a thread; `statistics` and `shutdown` may be called from any thread. `shutdown` stops the intake, finishes and
commits the records in flight, then `run` returns the exit code.

    python -m examples.05_library
"""

import logging
import signal
import threading
from collections.abc import Mapping
from typing import Any

import structlog

from drakkar_flow import KafkaSink, StreamFlow, StreamingRunner
from examples.playground import embedded_broker, send

flow = StreamFlow("shout").decode(str).map(str.upper).route(KafkaSink("loud"))

CONFIG: dict[str, Any] = {
    "kafka": {"source_topic": "words", "consumer_group": "shout"},
    "sinks": {"kafka": {"loud": {"topic": "words-loud"}}},
    "metrics": {"enabled": False},
}
INPUTS = [b"so", b"much", b"to", b"say"]


class Service:
    """A program that contains a flow."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.runner = StreamingRunner.from_dict(flow, config, own_signals=False, own_logging=False)
        self.exit_code = 1
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run_flow, name="flow")

    def run(self, wanted: int) -> int:
        """Run until `wanted` records are finished, or SIGTERM arrives."""
        before = signal.signal(signal.SIGTERM, lambda *_: self._stop_requested.set())
        self._thread.start()
        while self._thread.is_alive() and not self._stop_requested.wait(0.1):
            if self.runner.statistics().totals.records_finished >= wanted:
                break
        self.runner.shutdown()
        self._thread.join()
        signal.signal(signal.SIGTERM, before)
        return self.exit_code

    def _run_flow(self) -> None:
        self.exit_code = self.runner.run()


def main() -> int:
    """Run the service on the embedded broker."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with embedded_broker() as brokers:
        config = {**CONFIG, "kafka": {**CONFIG["kafka"], "brokers": brokers}}
        service = Service(config)
        code = service.run(send(brokers, CONFIG["kafka"]["source_topic"], INPUTS))
    now = service.runner.statistics()
    print(f"finished {now.totals.records_finished}, committed {sum(now.committed.values())}, exit code {code}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
