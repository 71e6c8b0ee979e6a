"""Notices for keys that were given but have no effect yet: none is ignored in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from drakkar_flow.config.base import NoEffect, Section
from drakkar_flow.errors import Problem

__all__ = ["unused_alignment_notices", "unused_key_notices", "unused_recorder_notices"]

Place = tuple[str | int, ...]


def unused_key_notices(section: Section, where: Callable[[Place], str], path: Place = ()) -> Iterator[Problem]:
    """A notice per key that was given and has no effect; `where` says where a path stands.

    Disabled features are not reported: an empty value, or a section with `enabled: false`.
    """
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*path, name)
        mark = next((mark for mark in field.metadata if isinstance(mark, NoEffect)), None)
        if mark is None:
            yield from _below(value, where, here)
        elif name in section.model_fields_set and _is_on(value):
            yield Problem(where(here), f"accepted, but {mark.why}", "it has no effect")


def unused_alignment_notices(given: set[str], where: Callable[[Place], str]) -> Iterator[Problem]:
    """A notice per setting of the startup alignment in the kafka section's given keys when it was not switched on."""
    if "startup_align_enabled" not in given:
        for name in sorted({"startup_min_wait_seconds", "startup_align_interval_seconds"} & given):
            what = "accepted, but kafka.startup_align_enabled is false unless given"
            yield Problem(where(("kafka", name)), what, "set it to true to wait at the start")


def unused_recorder_notices(given: set[str], where: Callable[[Place], str]) -> Iterator[Problem]:
    """A notice if settings of the recorder were given, the debug section's given keys, and it was not switched on."""
    if given and "enabled" not in given:
        what = "accepted, but debug.enabled is false unless given"
        yield Problem(where(("debug",)), what, "set it to true to record, to false to be rid of this notice")


def _below(value: object, where: Callable[[Place], str], path: Place) -> Iterator[Problem]:
    if isinstance(value, Section) and _is_disabled(value):
        return
    if isinstance(value, Section):
        yield from unused_key_notices(value, where, path)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Section):
                yield from unused_key_notices(inner, where, (*path, str(key)))


def _is_disabled(section: Section) -> bool:
    return "enabled" in section.model_fields_set and not getattr(section, "enabled", True)


def _is_on(value: object) -> bool:
    if isinstance(value, Section):
        return bool(value.model_fields_set) and getattr(value, "enabled", True)
    return bool(value)
