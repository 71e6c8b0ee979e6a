"""Services of a running flow for its handler, such as `offload`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Services"]


class Services(Protocol):
    """Services that a handler gets at the start of its flow and loses at its end."""

    async def offload(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `function` on a thread of the pool and return its result."""
        ...

    def annotate(self, target: object, kind: str, data: object, labels: Mapping[str, str] | None) -> None:
        """Emit an annotation; never raises."""
        ...
