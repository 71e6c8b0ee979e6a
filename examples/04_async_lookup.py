"""Lesson 4: waiting for something else. `map_async` calls an async function for each record, many at once.

At most `max_in_flight` calls run at a time; they may end in any order, and commits still never run ahead of the
slowest. A call that raises or takes longer than `timeout_s` makes its record a dead letter. The function runs on the
library's event loop: what blocks belongs into `asyncio.to_thread`.

    python -m examples.04_async_lookup
"""

import asyncio

from pydantic import BaseModel

from drakkar_flow import KafkaSink, StreamFlow
from examples.playground import play

CUSTOMERS = {1: "Ada", 2: "Grace", 3: "Barbara"}


class Order(BaseModel):
    """An order by a customer that has only a number."""

    number: int
    customer: int


async def with_name(order: Order) -> dict[str, int | str]:
    """Ask for the customer's name; stands for a call over the network."""
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
