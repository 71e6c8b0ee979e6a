"""Counts words in all partitions together, for any size of cluster; some words are mistakes of all kinds."""

import asyncio
import os
from typing import Any

from drakkar_flow import KafkaSink, StreamFlow


def words(text: str) -> list[Any]:
    """The words of a text; one of them can't be sent to another process."""
    return [(letter for letter in word) if word.startswith("generator") else word for word in text.split()]


def key(word: Any) -> Any:
    """The word itself, but for those without a key."""
    if isinstance(word, str):
        return None if word.startswith("keyless") else word
    return "generator"


def count(number: int | None, word: str) -> tuple[int, str]:
    """One more of a word."""
    if word.startswith("raising"):
        raise ValueError("no such word")
    return (number or 0) + 1, f"{word} {(number or 0) + 1}"


async def wait(text: str) -> str:
    """Records of one word finish in another order than they come."""
    await asyncio.sleep(hash(text) % 5 / 1000)
    if text.startswith("fatal"):
        raise ValueError("a failure of the record")
    return text


flow = StreamFlow("words").decode(str).flat_map(words).stateful(count, key=key, state=int, across=True)
flow = flow.map_async(wait).route(KafkaSink("out"), on_error="fail" if os.environ.get("FAIL") else "dlq")
