"""Joins of two topics by key, with state across partitions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from drakkar_flow import Joined, KafkaSource, StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.build import resolve_topics
from drakkar_flow.errors import ConfigError, FlowArgumentError, FlowError
from drakkar_flow.testing import FlowHarness
from support.lives import disturb


class Order(msgspec.Struct):
    """An order of an item."""

    id: int
    item: str


class Payment(BaseModel):
    """A payment of an order, at a time."""

    order: int
    cents: int
    at: float = 0


ORDERS = StreamFlow("shop", source=KafkaSource("orders")).decode(Order)
PAYMENTS = StreamFlow("payments", source=KafkaSource("payments")).decode(Payment)


def id_of(order: Order) -> int:
    """Key of an order."""
    return order.id


def order_of(payment: Payment) -> int:
    """Key of a payment."""
    return payment.order


def written(pair: Joined[Order, Payment]) -> str:
    """A pair as one text."""
    return f"{pair.key!s}: {pair.left.item} for {pair.right.cents}"


SHOP = ORDERS.join(PAYMENTS, key=(id_of, order_of), within_s=60).map(written).route()


@pytest.fixture
def shop() -> Iterator[FlowHarness]:
    """The joined flow."""
    with FlowHarness(SHOP) as kit:
        yield kit


def order(kit: FlowHarness, number: int, item: str, at_s: float = 0) -> None:
    """Send an order."""
    kit.send({"id": number, "item": item}, topic="orders", timestamp=int(at_s * 1000))


def pay(kit: FlowHarness, number: int, cents: int, at_s: float = 0) -> None:
    """Send a payment."""
    kit.send({"order": number, "cents": cents}, topic="payments", timestamp=int(at_s * 1000))


def test_each_record_meets_those_of_the_other_topic_with_its_key(shop: FlowHarness) -> None:
    """Whichever comes first; all pairs, each once. A record without partner has no output."""
    order(shop, 1, "tea")
    pay(shop, 1, 5)
    pay(shop, 2, 7)
    pay(shop, 1, 6)
    order(shop, 2, "milk")
    order(shop, 3, "salt")
    shop.wait_acknowledged()
    assert sorted(shop.values) == ["1: tea for 5", "1: tea for 6", "2: milk for 7"]
    assert not shop.dead_letters


def test_times_within_the_bound_are_a_pair(shop: FlowHarness) -> None:
    """The bound is included, in both directions."""
    order(shop, 1, "tea", at_s=100)
    for cents, at_s in ((39, 39.9), (40, 40), (160, 160), (161, 160.1)):
        pay(shop, 1, cents, at_s)
    shop.wait_acknowledged()
    assert sorted(shop.values) == ["1: tea for 160", "1: tea for 40"]


def test_a_record_waits_over_a_crash(shop: FlowHarness) -> None:
    """It is state, as any other."""
    order(shop, 1, "tea")
    shop.wait_acknowledged()
    shop.crash()
    shop.restart()
    pay(shop, 1, 5)
    shop.wait_acknowledged()
    assert shop.values == ["1: tea for 5"]


def test_what_can_not_have_a_partner_any_more_is_removed(shop: FlowHarness) -> None:
    """A later record of the other side shows it; without records the key goes after the time to live."""
    order(shop, 1, "tea", at_s=0)
    pay(shop, 1, 5, at_s=61)
    shop.wait_acknowledged()
    assert (len(shop.state(1).left.waiting), len(shop.state(1).right.waiting)) == (0, 1)
    shop.clock.advance(61 + 86_400)
    assert shop.state(1) is None


@pytest.mark.parametrize("seed", range(15))
def test_pairs_are_exact_over_crashes_and_restarts(seed: int) -> None:
    """All pairs of what was sent are delivered; what waits is the same as without crashes."""
    chance = random.Random(seed)
    sent: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] = ([], [])
    clock = [0]

    def send() -> None:
        side, number = chance.randrange(2), chance.randrange(4)
        clock[0] += chance.randrange(20)
        sent[side].append((number, len(sent[side]), clock[0]))
        if side:
            pay(kit, number, len(sent[1]) - 1, clock[0])
        else:
            order(kit, number, str(len(sent[0]) - 1), clock[0])

    with FlowHarness(SHOP) as kit:
        for _ in range(15):
            disturb(kit, chance, 1, send, moves=False)
        kit.let_commits_go()
        kit.wait_acknowledged()
        wanted = {
            f"{number}: {item} for {cents}"
            for number, item, at in sent[0]
            for other, cents, paid_at in sent[1]
            if number == other and abs(at - paid_at) <= 60
        }
        assert set(kit.values) == wanted
        assert not kit.dead_letters


def test_sides_have_their_own_steps_and_times() -> None:
    """Each record goes through the steps of its topic; a failure names the side."""
    left = StreamFlow("f", source=KafkaSource("^orders-.*")).decode(Order).filter(lambda each: each.item != "none")
    right = (
        StreamFlow("g", source=KafkaSource("payments"))
        .decode(Payment)
        .flat_map(lambda payment: [payment, payment])
        .map(lambda payment: {"id": payment.order, "at": payment.at, "cents": 100 // payment.cents})
    )
    joined = left.join(
        right,
        key=(id_of, lambda paid: paid["id"]),
        time=(lambda _order: datetime.fromtimestamp(50, UTC), lambda paid: paid["at"]),
        within_s=10,
        types=(Order, dict[str, Any]),
        name="paid",
    )
    with FlowHarness(joined.route(), topic="orders-eu") as kit:
        kit.send({"id": 1, "item": "tea"})
        kit.send({"id": 1, "item": "none"})
        kit.send({"order": 1, "cents": 50, "at": 45}, topic="payments")
        kit.send({"order": 1, "cents": 50, "at": 39}, topic="payments")
        kit.send({"order": 1, "cents": 0, "at": 45}, topic="payments")
        kit.send("no json", topic="payments")
        kit.wait_acknowledged()
        assert [(pair.key, pair.left.item, pair.right["cents"]) for pair in kit.values] == 2 * [(1, "tea", 2)]
        stages = {(letter.stage, letter.tokens[0][0].label) for letter in kit.dead_letters}
        assert stages == {("sides-right-decode", "payments:0:3"), ("sides-right-map-lambda", "payments:0:2")}


def test_each_side_has_its_own_policy_for_records_that_can_not_be_decoded() -> None:
    """As in a flow of one topic; a side without one follows the configuration."""
    orders = StreamFlow("shop", source=KafkaSource("orders")).decode(Order, on_error="skip")
    joined = orders.join(PAYMENTS, key=(id_of, order_of), within_s=60).map(written).route()
    with FlowHarness(joined) as kit:
        skipped = kit.send("no order", topic="orders")
        dead = kit.send("no payment", topic="payments")
        kit.wait_acknowledged()
        assert (skipped.status, dead.status) == ("skipped", "dead")


def test_a_record_without_a_timestamp_is_a_failure(shop: FlowHarness) -> None:
    """The fix is in the error."""
    shop.send({"id": 1, "item": "tea"}, topic="orders")
    shop.wait_acknowledged()
    (letter,) = shop.dead_letters
    assert letter.error == "orders:0:0 has no timestamp; pass time= to join"


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        (
            ORDERS.map(id_of).join(PAYMENTS, key=(id_of, order_of), within_s=1),
            "step join: the type of the left payloads is not known, by which waiting ones are stored; pass types=",
        ),
        (
            ORDERS.join(PAYMENTS, key=(id_of, order_of), within_s=1, types=(Order, object)),
            "step join, right payloads: state of type <class 'object'> can't be stored",
        ),
        (
            ORDERS.dedupe(id_of, None).join(PAYMENTS, key=(id_of, order_of), within_s=1, types=(Order, Payment)),
            "step sides-left-stateful-dedupe: a side of a join can't have stateful; put it behind .join(...)",
        ),
        (
            StreamFlow("f", source=KafkaSource("raw")).join(PAYMENTS, key=order_of, within_s=1, types=(Order, Payment)),
            "step sides: a side of a join decodes its records; add .decode(...) to the flow of each side",
        ),
        (ORDERS.join(PAYMENTS, key="id", within_s=1), "step join: 'id' can't be called; pass a function"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_mistakes_in_a_join_are_found_before_it_runs(flow: StreamFlow, problem: str) -> None:
    """Each with its step and a fix."""
    with pytest.raises(FlowError) as refused:
        flow.route().check()
    assert problem in str(refused.value)


def test_sides_without_topics_or_with_the_same_are_refused_at_once() -> None:
    """By them a record's side is known."""
    with pytest.raises(FlowArgumentError, match="each side names its topics; write StreamFlow"):
        StreamFlow("f").decode(Order).join(PAYMENTS, key=order_of, within_s=1)
    with pytest.raises(FlowArgumentError, match="topic 'orders' is on both sides"):
        ORDERS.join(ORDERS, key=id_of, within_s=1)


def test_other_topics_in_the_configuration_are_refused() -> None:
    """The sides of a join are known by the topics in its code."""
    with pytest.raises(ConfigError, match="flow 'shop' joins the topics that it names: orders, payments; remove it"):
        resolve_topics(SHOP, from_mapping({"kafka": {"source_topic": "in"}}))
    same = from_mapping({"kafka": {"source_topics": ["payments", "orders"]}})
    assert list(resolve_topics(SHOP, same).kafka.topics) == ["payments", "orders"]
