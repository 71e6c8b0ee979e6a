"""Each record counts once, whatever happens to the process and its partitions: random runs with their seeds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from typing import Any

import pytest

from drakkar_flow import CollectResult, Handler, KafkaPayload, PendingContext, StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.testing import FlowHarness
from support.lives import disturb

PARTITIONS = 3


def counting(seed: int) -> StreamFlow:
    """Counts by key around steps that wait, divide, drop and fail, so that records finish out of order."""
    chance = random.Random(seed)

    def count(n: int | None, word: str) -> tuple[int | None, str | None]:
        if word == "bad":
            raise ValueError(word)
        return (n or 0) + 1, None if word == "drop" else word

    async def wait(word: str) -> str:
        await asyncio.sleep(chance.choice((0, 0, 0.1, 3)))
        if chance.random() < 0.1:
            raise ValueError("a failure after the change")
        return word

    def divided(word: str) -> list[str]:
        return [word] * chance.choice((0, 1, 2))

    flow = StreamFlow("count").decode(str).stateful(count, key=str, state=int, name="first")
    flow = flow.map_async(wait).flat_map(divided)
    return (
        flow.stateful(lambda n, word: ((n or 0) + 1, word), key=len, state=int, name="second").map_async(wait).route()
    )


class Counting(Handler[str, str]):
    """Counts in the hooks of tasks and windows."""

    state_model = int

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        await asyncio.sleep(self.chance.choice((0, 1)))
        for message in messages:
            self.add(message.payload)
        self.state["arranged"] = self.state.get("arranged", 0) + len(messages)
        return [message.task(args=[message.payload]) for message in messages if message.payload != "drop"]

    def add(self, word: str, prefix: str = "") -> None:
        key = prefix + word
        self.state[key] = self.state.get(key, 0) + 1

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        await asyncio.sleep(self.chance.choice((0, 0, 2)))
        self.add(result.task.args[0], "task ")
        return CollectResult(kafka=[KafkaPayload(data=result.task.args[0])])

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record[str]]) -> None:
        await asyncio.sleep(self.chance.choice((0, 1)))
        for result in results:
            self.add(result.task.args[0], "window ")


def send_word(kit: FlowHarness, chance: random.Random) -> None:
    """Send one message."""
    kit.send(chance.choice(("a", "a", "b", "cc", "bad", "drop")), partition=chance.randrange(PARTITIONS))


def totals(kit: FlowHarness, words: str, keys: Any) -> Counter[tuple[int, Any]]:
    """Number of messages by partition and key."""
    return Counter(
        (sent.partition, keys(word))
        for sent, word in ((sent, value_of(kit, sent)) for sent in kit.sent)
        if word not in words.split()
    )


def value_of(kit: FlowHarness, sent: Any) -> str:
    """Value of a sent message."""
    text: str = kit.log.records[sent.topic_partition][sent.offset].value.decode()
    return text


@pytest.mark.parametrize("seed", range(40))
def test_a_flow_counts_each_record_once(seed: int) -> None:
    """After any number of crashes, restarts and rebalances the state is that of a run without them."""
    chance = random.Random(seed)
    config = from_mapping({"runtime": {"workers": 1 + seed % 2}})
    with FlowHarness(counting(seed), partitions=PARTITIONS, config=config) as kit:
        for _ in range(25):
            disturb(kit, chance, PARTITIONS, partial(send_word, kit, chance))
        kit.let_commits_go()
        kit.wait_acknowledged()
        expected = totals(kit, "bad", str)
        assert expected == {key: kit.state(key[1], step="stateful-first", partition=key[0]) for key in expected}
        assert kit.log.all_committed(kit.log.records)


@pytest.mark.parametrize("seed", range(20))
def test_a_handler_counts_each_record_once(seed: int) -> None:
    """Windows have other records after each crash; a change of a window is that of all its records."""
    chance = random.Random(seed)
    config = from_mapping({"executor": {"window_size": 4, "window_linger_s": 0.1}})
    with FlowHarness(Counting(seed), partitions=PARTITIONS, config=config) as kit:
        for _ in range(25):
            disturb(kit, chance, PARTITIONS, partial(send_word, kit, chance))
        kit.let_commits_go()
        kit.wait_acknowledged()
        assert not kit.dead_letters
        arranged = totals(kit, "", lambda _word: "arranged")
        assert arranged == {key: kit.state("arranged", partition=key[0]) for key in arranged}
        for prefix, left_out in (("", ""), ("task ", "drop"), ("window ", "drop")):
            expected = totals(kit, left_out, lambda word, prefix=prefix: prefix + word)
            assert expected == {key: kit.state(key[1], partition=key[0]) for key in expected}


def counting_across(seed: int) -> StreamFlow:
    """Divides, drops and fails before and behind the state, whose keys are in all partitions."""
    chance = random.Random(seed)

    def words(text: str) -> list[str]:
        return text.split("-")

    def count(n: int | None, word: str) -> tuple[int | None, str | None]:
        if word == "bad":
            raise ValueError(word)
        return (n or 0) + 1, None if word == "drop" else word

    async def wait(word: str) -> str:
        await asyncio.sleep(chance.choice((0, 0, 0.1, 3)))
        if chance.random() < 0.1:
            raise ValueError("a failure after the change")
        return word

    def divided(word: str) -> list[str]:
        return [word] * chance.choice((0, 1, 2))

    flow = StreamFlow("count").decode(str).filter(lambda text: text != "no").flat_map(words)
    return (
        flow.stateful(count, key=str, state=int, across=True).map_async(wait).flat_map(divided).map_async(wait).route()
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_flow_counts_across_partitions_each_part_of_a_record_once(seed: int) -> None:
    """Parts of one record go to several shards, which have them in one row with its position, or not at all."""
    chance = random.Random(seed)
    texts = ("a", "b-a-cc", "a-a", "bad-d", "drop", "no", "b-drop-e-f-g")
    sent: list[str] = []

    def send() -> None:
        sent.append(chance.choice(texts))
        kit.send(sent[-1], partition=chance.randrange(PARTITIONS))

    with FlowHarness(counting_across(seed), partitions=PARTITIONS) as kit:
        for _ in range(25):
            disturb(kit, chance, PARTITIONS, send, moves=False)
        kit.let_commits_go()
        kit.wait_acknowledged()
        expected = Counter(word for text in sent if text != "no" for word in text.split("-") if word != "bad")
        assert expected == {word: kit.state(word) for word in expected}
        assert kit.log.all_committed(kit.log.records)
