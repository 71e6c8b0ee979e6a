"""Settings of a recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drakkar_flow.recorder.fold.folder import Gauges

__all__ = ["RecorderSettings"]


def _no_gauges() -> Gauges:
    return {}


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Place and bounds of recordings. `directory` None means the user's state directory.

    `meta` describes the worker; `gauges` reads its gauges from any thread and must not block.
    """

    worker: str
    directory: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    flush_s: float = 0.25
    max_buffer: int = 50_000
    rotate_s: float = 3600.0
    rotate_size: int = 64 * 1024 * 1024
    keep_size: int = 1024 * 1024 * 1024
    keep_s: float = 24 * 3600.0
    details: bool = True
    outputs: bool = True
    min_task_s: float = 0.0
    trace_every: int = 10_000
    gauge_s: float = 1.0
    gauges: Callable[[], Gauges] = _no_gauges
    redact: Callable[[str], str] = str
    meta: Mapping[str, Any] = field(default_factory=dict)
