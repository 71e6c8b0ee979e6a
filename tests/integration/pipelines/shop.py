"""Joins orders and payments, whose topics the environment names."""

import os

import msgspec

from drakkar_flow import Joined, KafkaSink, KafkaSource, StreamFlow


class Order(msgspec.Struct):
    """An order."""

    id: int


class Payment(msgspec.Struct):
    """A payment of an order."""

    order: int
    cents: int


def written(pair: Joined[Order, Payment]) -> str:
    """A pair as one text."""
    return f"{pair.left.id} {pair.right.cents}"


orders = StreamFlow("shop", source=KafkaSource(os.environ["ORDERS"])).decode(Order)
payments = StreamFlow("payments", source=KafkaSource(os.environ["PAYMENTS"])).decode(Payment)
flow = orders.join(payments, key=(lambda order: order.id, lambda payment: payment.order), within_s=3600)
flow = flow.map(written).route(KafkaSink("out"))
