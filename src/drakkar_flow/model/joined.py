"""Joined: the output of a join, a pair of records of one key."""

from __future__ import annotations

from typing import Any, Generic

from typing_extensions import TypeVar

from drakkar_flow.model.base import Model

__all__ = ["Joined"]

LeftT = TypeVar("LeftT", default=Any)
RightT = TypeVar("RightT", default=Any)


class Joined(Model, Generic[LeftT, RightT]):
    """Pair of a join: the payloads of two records with the same key.

    >>> Joined(7, "order", "payment")
    Joined(key=7, left='order', right='payment')
    """

    key: str | int | bytes
    left: LeftT
    right: RightT
