import asyncio
import queue
import threading

from confluent_kafka import Producer

from drakkar_flow.config.sinks import KafkaSinkConfig
from drakkar_flow.model.codec import encode
from drakkar_flow.model.payload import KafkaPayload
from drakkar_flow.sinks.base import SinkSpec


class KafkaSink:
    def __init__(self, name, settings):
        self.s = settings
        self.q = queue.Queue(64)

    async def connect(self):
        self.p = Producer(
            {
                "bootstrap.servers": self.s.brokers,
                "linger.ms": self.s.linger_ms,
                "enable.idempotence": True,
                "delivery.report.only.error": True,
            }
        )
        self.t = threading.Thread(target=self.run, daemon=True)
        self.t.start()

    def run(self):
        def cb(e, m):
            print("ERR", e)

        while True:
            item = self.q.get()
            if item is None:
                return
            items = [item]
            while len(items) < 8:
                try:
                    items.append(self.q.get_nowait())
                except queue.Empty:
                    break
            for batch, fut, loop in items:
                self.p.produce_batch(
                    self.s.topic,
                    [{"value": encode(d.payload.data), "key": d.payload.key} for d in batch],
                    on_delivery=cb,
                )
            self.p.flush()
            items[0][2].call_soon_threadsafe(lambda its: [f.set_result(None) for _, f, _ in its], items)

    async def write_batch(self, batch):
        loop = asyncio.get_running_loop()
        f = loop.create_future()
        self.q.put((batch, f, loop))
        await f

    async def close(self):
        self.q.put(None)


SPEC = SinkSpec(
    "kafka",
    KafkaPayload,
    KafkaSinkConfig,
    lambda n, s: KafkaSink(n, s),
    lambda v, r, n, s: KafkaPayload(data=v, key=r.key, sink=n),
    8,
    2000,
)
