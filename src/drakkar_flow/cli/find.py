"""The loader of flows, as the subcommands use it."""

from __future__ import annotations

from drakkar_flow.engine.find import find_flow

__all__ = ["find_flow"]
