"""Lesson 4: async lookups. `map_async` calls an async function for each record, many concurrently.

At most `max_in_flight` calls run at a time. They may end in any order; commits never pass the slowest. A call that
raises or takes longer than `timeout_s` makes its record a dead letter. The function runs on the library's event loop:
use `asyncio.to_thread` for blocking calls.

    python -m examples.04_async_lookup
"""

import asyncio

from pydantic import BaseModel

from drakkar_flow import KafkaSink, StreamFlow
from examples.playground import play

CUSTOMERS = {1: "Ada", 2: "Grace", 3: "Barbara"}


class Order(BaseModel):
    """An order with the number of its customer."""

    number: int
    customer: int


async def with_name(order: Order) -> dict[str, int | str]:
    """Look up the customer's name; a stand-in for a network call."""
    await asyncio.sleep(0.01 * order.customer)
    return {"number": order.number, "customer": CUSTOMERS[order.customer]}


flow = StreamFlow("orders").decode(Order).map_async(with_name, max_in_flight=50, timeout_s=5).route(KafkaSink("named"))

CONFIG = {
    "kafka": {"source_topic": "orders", "consumer_group": "orders"},
    "sinks": {"kafka": {"named": {"topic": "orders-named"}}},
}
INPUTS = [b'{"number": %d, "customer": %d}' % (number, 1 + number % 4) for number in range(8)]

if __name__ == "__main__":
    raise SystemExit(play(flow, CONFIG, INPUTS))
