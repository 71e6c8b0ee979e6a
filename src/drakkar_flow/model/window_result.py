"""Window result: the output of a window of event time."""

from __future__ import annotations

from typing import Any, Generic

from typing_extensions import TypeVar

from drakkar_flow.model.base import Model

__all__ = ["WindowResult"]

ValueT = TypeVar("ValueT", default=Any)


class WindowResult(Model, Generic[ValueT]):
    """Value of a window of event time of one key.

    `start_s` and `end_s` are seconds since the epoch; the window has its start and not its end. `value` is what the
    window's `add` has made of its records.

    >>> WindowResult("anna", 0.0, 60.0, 2)
    WindowResult(key='anna', start_s=0.0, end_s=60.0, value=2)
    """

    key: str | int | bytes
    start_s: float
    end_s: float
    value: ValueT
