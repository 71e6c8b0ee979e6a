"""Precomputed result: the outcome of a task that needs no process."""

from __future__ import annotations

from drakkar_flow.model.base import Model

__all__ = ["PrecomputedResult"]


class PrecomputedResult(Model):
    """Result of a task that needs no process: it skips the executor's slots.

    `stdout` and `stderr` are text, or the bytes of a program's output.
    """

    stdout: str | bytes = ""
    stderr: str | bytes = ""
    exit_code: int = 0
    duration_seconds: float = 0.0
