"""Reading the process's environment into layers: `DRAKKAR_KAFKA__BROKERS` is `kafka.brokers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.overrides import override_layer
from drakkar_flow.config.schema import ROOT, Type, fields_at

__all__ = ["PREFIXES", "read_environ"]

PREFIXES: Final = ("DK_", "DRAKKAR_")
"""Prefixes of our variables."""
_KEEPS_CASE: Final[set[tuple[str, ...]]] = {("executor", "env")}


def read_environ(
    environ: Mapping[str, str],
    root: Type = ROOT,
    app_prefix: str | None = None,
    below: Mapping[str, Any] | None = None,
) -> list[Layer]:
    """A layer per variable that is meant for us, in the order they are to be merged.

    Meant for us are names with a prefix (`DRAKKAR_` wins over `DK_`) that hold `__` or name a top-level key; others,
    like `DRAKKAR_CONFIG`, are ignored. Keys are lower-cased, except below `executor.env`. Sections, mappings and
    lists are given as JSON; a number is the index of a list's item (see `text_layer`, also for `below`). With
    `app_prefix` names that begin with it and go on with a key of the `app` section set that; `DRAKKAR_APP__...` wins
    over them.
    """
    found = [
        (PREFIXES.index(prefix), path, name)
        for name in environ
        for prefix in PREFIXES
        if name.startswith(prefix) and (path := _path_of(name.removeprefix(prefix)))
    ]
    if app_prefix is not None:
        known = fields_at(("app",), root)
        paths = {name: _lowered(name.removeprefix(app_prefix)) for name in environ if name.startswith(app_prefix)}
        found += [(-1, ("app", *path), name) for name, path in paths.items() if path[0] in known]
    found.sort(key=lambda entry: (entry[0], len(entry[1]), entry[2]))
    return [override_layer(path, environ[name], f"environment variable {name}", root, below) for _, path, name in found]


def _path_of(name: str) -> tuple[str, ...]:
    """The path a variable's name stands for; empty when it is not meant for us."""
    segments, lowered = name.split("__"), _lowered(name)
    if len(segments) == 1 and lowered[0] not in ROOT.model_fields:
        return ()
    for parent in _KEEPS_CASE:
        if lowered[: len(parent)] == parent:
            return (*parent, *segments[len(parent) :])
    return lowered


def _lowered(name: str) -> tuple[str, ...]:
    return tuple(name.lower().split("__"))
