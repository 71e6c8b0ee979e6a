"""A loaded configuration as YAML, each value with its origin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from drakkar_flow.config.loading.load import Loaded
from drakkar_flow.config.redact import redacted
from drakkar_flow.config.schema import Path, dotted, field_at, mark_of
from drakkar_flow.kernel.redaction import MASK, is_sensitive

__all__ = ["render_yaml"]


class _Dumper(yaml.SafeDumper):
    """YAML on one line: no aliases, and text with line breaks or the like in double quotes, escaped."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def render_yaml(loaded: Loaded) -> str:
    """The whole configuration as YAML that can be loaded again, secrets masked; a comment says who set what.

    Values without a comment are defaults. Keys that have no effect are shown when they are set.
    """
    values = redacted(loaded.config)
    for path, name, _ in loaded.layer.filled:
        if is_sensitive(name):
            _hide(values, path)
    return "".join(_lines(values, (), loaded))


def _hide(values: Any, path: Path) -> None:
    """Mask what stands at a path."""
    *parents, last = path
    for key in parents:
        values = values.get(key, {}) if isinstance(values, dict) else values[key]
    values[last] = MASK


def _lines(values: Mapping[str, Any], path: Path, loaded: Loaded) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in values.items():
        here = (*path, key)
        if mark_of(field_at(here, type(loaded.config))) and not loaded.origin(here):
            continue
        if isinstance(value, dict) and value:
            yield f"{indent}{_inline(key)}:\n"
            yield from _lines(value, here, loaded)
        else:
            origin = _origin(here, loaded)
            yield f"{indent}{_inline(key)}: {_inline(_escaped(value))}{'  # ' + _comment(origin) if origin else ''}\n"


def _origin(path: Path, loaded: Loaded) -> str:
    """Origin of the value at a path, and of the items of a list that were set one by one."""
    n = len(path)
    items = sorted((item[n:] for item in loaded.layer.named if item[:n] == path and len(item) > n), key=str)
    of_items = [f"{dotted(item)} {loaded.layer.origins[path + item]}" for item in items]
    whole = loaded.origin(path)
    return ", ".join(of_items if any(each.endswith(f" {whole}") for each in of_items) else [whole, *of_items])


def _inline(value: object) -> str:
    """The value as YAML on one line."""
    text: str = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False
    )
    return text.strip()[1:-1]


def _escaped(value: Any) -> Any:
    """The value with `${` escaped, so that loading it again fills nothing in."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return {key: _escaped(item) for key, item in value.items()} if isinstance(value, dict) else value


def _comment(origin: str) -> str:
    return " ".join(origin.split())
