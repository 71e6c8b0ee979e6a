"""Loading the configuration: defaults < YAML file < environment < overrides, all problems reported at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from drakkar_flow.config.environ import PATH_VARIABLES, read_environ
from drakkar_flow.config.explain import explain
from drakkar_flow.config.layers import Layer, from_plain, merge
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import ROOT, Path, Type, child, is_container, is_section
from drakkar_flow.config.yaml_file import read_yaml
from drakkar_flow.errors import ConfigError

__all__ = ["Loaded", "from_mapping", "load", "load_config"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with the origins of its values."""

    config: DrakkarConfig
    layer: Layer

    def origin(self, path: Path) -> str:
        """Where the value at a path was set; empty when it is the default."""
        inner: Any = self.layer.tree
        for key in path:
            if not isinstance(inner, dict) or key not in inner:
                return ""
            inner = inner[key]
        return self.layer.origin(path)


def load_config(
    path: str | FilePath | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> DrakkarConfig:
    """Reads the configuration: defaults, then the YAML file, then the environment, then `overrides`; later ones win.

    The file is `path`, else what the environment variable `DRAKKAR_CONFIG` or `DK_CONFIG` names, else none. In its
    values `${NAME}` and `${NAME:-default}` take environment variables, `$${` stands for `${`. The variable
    `DRAKKAR_KAFKA__BROKERS` (or `DK_...`) sets `kafka.brokers`; sections, mappings and lists are given as JSON.
    `overrides` is nested like the file; `environ` replaces the process's environment.

    Raises:
        ConfigError: with everything that is wrong, each with its place.

    >>> load_config(environ={"DRAKKAR_EXECUTOR__MAX_EXECUTORS": "8"}).executor.max_executors
    8
    """
    return load(path, overrides=overrides, environ=environ).config


def load(
    path: str | FilePath | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Like `load_config`, but tells also where each value comes from."""
    variables = os.environ if environ is None else environ
    layers = [*_file_layers(path, variables), *read_environ(variables)]
    if overrides is not None:
        layers.append(from_plain(overrides, "override"))
    return _validated(merge(layers))


def from_mapping(data: Mapping[str, Any], source: str = "config") -> DrakkarConfig:
    """Checks a nested mapping like `load_config` checks a file; `source` names it in problems.

    Raises:
        ConfigError: with everything that is wrong, each with its place.

    >>> from_mapping({"kafka": {"brokerz": "kafka:9092"}})
    Traceback (most recent call last):
    drakkar_flow.errors.ConfigError: the configuration is not usable:
      - config kafka.brokerz: unknown key; did you mean 'brokers'?
    """
    return _validated(merge([from_plain(data, source)])).config


def _file_layers(path: str | FilePath | None, environ: Mapping[str, str]) -> list[Layer]:
    if path is not None:
        return [read_yaml(FilePath(path), environ)]
    for name in PATH_VARIABLES:
        if environ.get(name):
            return [read_yaml(FilePath(environ[name]), environ, f"the environment variable {name} names it")]
    return []


def _validated(layer: Layer) -> Loaded:
    problems = list(layer.problems)
    try:
        config = DrakkarConfig.model_validate(_without_empty(layer.tree, ROOT))
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [explain(d, layer) for d in details if not layer.is_broken(tuple(d["loc"]))]
    if problems:
        raise ConfigError(sorted(set(problems), key=problems.index))
    return Loaded(config, layer)


def _without_empty(tree: dict[str, Any], kind: Type) -> dict[str, Any]:
    """The values without keys that hold nothing where others go: an empty section has its defaults."""
    kept = {}
    for key, value in tree.items():
        inner = child(kind, key)
        if isinstance(value, dict):
            kept[key] = _without_empty(value, inner)
        elif value is not None or not is_container(inner):
            kept[key] = value
        elif not is_section(kind) and is_section(inner):
            kept[key] = {}
    return kept
