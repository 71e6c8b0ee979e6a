"""Caches of workers with their files, and the events that they emit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from drakkar_flow.cache.service import CacheService
from drakkar_flow.cache.settings import CacheSettings
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from support.until import until

__all__ = ["CacheScene", "cache_scene"]

E = TypeVar("E", bound=Event)


class CacheScene:
    """A running cache service."""

    def __init__(self, directory: Path, worker: str = "w", **settings: Any) -> None:
        self.events: list[Event] = []
        bus = Bus()
        for kind in Event.__subclasses__():
            bus.listen(kind, self.events.append)
        values = {"flush_s": 0.02, **settings}
        self.service = CacheService(CacheSettings(worker=worker, directory=directory, **values), bus)
        self.cache = self.service.cache
        self.service.start()

    def of(self, kind: type[E]) -> list[E]:
        """Events of a type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def until(self, kind: type[E]) -> E:
        """Wait for an event of a type, and return the first."""
        until(lambda: bool(self.of(kind)), 20, kind.__name__)
        return self.of(kind)[0]


@contextmanager
def cache_scene(directory: Path, worker: str = "w", **settings: Any) -> Iterator[CacheScene]:
    """A cache that is closed at the end."""
    scene = CacheScene(directory, worker, **settings)
    try:
        yield scene
    finally:
        scene.service.close(20)
