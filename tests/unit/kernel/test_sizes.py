"""How large values are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from drakkar_flow import KafkaPayload, MongoPayload, PostgresPayload, RedisPayload
from drakkar_flow.kernel.sizes import LARGE, SizeSampler, size_of_value

BIG = "x" * 5000


class Model(BaseModel):
    """A pydantic model."""

    text: str


class Struct(msgspec.Struct):
    """A msgspec struct."""

    text: str


@dataclass(slots=True)
class Data:
    """A dataclass without a __dict__."""

    text: str


@pytest.mark.parametrize(
    "value",
    [
        BIG,
        BIG.encode(),
        bytearray(5000),
        memoryview(bytes(5000)),
        [BIG],
        (BIG,),
        {BIG},
        {"text": BIG},
        Model(text=BIG),
        Struct(text=BIG),
        Data(text=BIG),
        KafkaPayload(data=Model(text=BIG)),
        PostgresPayload(table="t", data={"text": BIG}),
        MongoPayload(collection="c", data={"inner": [Struct(text=BIG)]}),
        RedisPayload(op="hset", key="k", fields={"text": BIG}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_text_and_bytes_count_wherever_they_are(value: Any) -> None:
    """In every kind of container that payloads are made of."""
    assert size_of_value(value) == pytest.approx(5000, abs=20)


def test_a_value_that_holds_itself_ends() -> None:
    """Four levels down is deep enough."""
    loop: list[Any] = [BIG]
    loop.append(loop)
    assert size_of_value(loop) == 4 * 5000


@given(st.lists(st.integers(0, 3), min_size=1, max_size=400))
def test_a_sampler_sees_large_values_among_large_ones(kinds: list[int]) -> None:
    """While no 64 in a row are small, each is measured."""
    sampler = SizeSampler()
    small = 0
    for kind in kinds:
        size = sampler.measure("x" * LARGE if kind == 0 else "x")
        if kind == 0 and small < 64:
            assert size == LARGE
        small = 0 if kind == 0 else small + 1


def test_a_sampler_looks_at_one_in_32_small_value() -> None:
    """So that a stream that becomes large is noticed soon."""
    sampler = SizeSampler()
    for _ in range(64):
        sampler.measure("x")
    seen = [sampler.measure(BIG) for _ in range(33)]
    assert seen == [0] * 31 + [5000, 5000]
