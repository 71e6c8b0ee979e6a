"""Loading the configuration: defaults < YAML file < environment < overrides, all problems reported at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypedDict

from pydantic import BaseModel, ValidationError

from drakkar_flow.config.config_file import ConfigFile
from drakkar_flow.config.loading.client_properties import refused_properties
from drakkar_flow.config.loading.environ import read_environ
from drakkar_flow.config.loading.find import named_config
from drakkar_flow.config.loading.layers import Filled, Layer, close_lists, from_plain, merge
from drakkar_flow.config.loading.legacy_migration import migrate_legacy_keys
from drakkar_flow.config.loading.overrides import read_assignments
from drakkar_flow.config.loading.validation_errors import unknown_key_problem, validation_problem
from drakkar_flow.config.loading.yaml_file import read_yaml
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import (
    ROOT,
    Path,
    Type,
    child,
    is_container,
    is_secret,
    is_section,
    overlooked_keys,
    root_with,
    type_at,
)
from drakkar_flow.errors import ConfigError, ConfigFileMissing, Problem
from drakkar_flow.kernel.redaction import is_sensitive

__all__ = ["AppOptions", "Loaded", "file_layer", "from_mapping", "load", "load_config", "validated"]


class AppOptions(TypedDict, total=False):
    """A handler's options for loading: `load_config(path, **options)`."""

    app_model: type[BaseModel] | None
    app_env_prefix: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with the origins of its values."""

    config: DrakkarConfig
    layer: Layer
    notices: tuple[Problem, ...] = ()
    """Notices: moved keys and keys without effect."""
    file: ConfigFile = field(default_factory=ConfigFile)
    """The file that was read, and the reason."""

    def origin(self, path: Path) -> str:
        """Origin of the value at a path; empty for the default."""
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
    app_model: type[BaseModel] | None = None,
    app_env_prefix: str = "APP_",
) -> DrakkarConfig:
    """Reads the configuration: defaults, then the YAML file, then the environment, then `overrides`; later ones win.

    The file is `path`, else what the environment variable `DRAKKAR_CONFIG` or `DK_CONFIG` names, else none. In its
    values `${NAME}` and `${NAME:-default}` take environment variables, `$${` stands for `${`. The variable
    `DRAKKAR_KAFKA__BROKERS` (or `DK_...`) sets `kafka.brokers`; sections, mappings and lists are given as JSON, an item
    of a list by its index (`DRAKKAR_KAFKA__SOURCE_TOPICS__0`).
    `overrides` is nested like the file; `environ` replaces the process's environment. With `app_model` the `app`
    section is checked by it and becomes an instance of it; `APP_LIMIT` (`app_env_prefix`) then sets `app.limit`.
    Moved keys of py-drakkar set their new keys; the notices about that are in
    `DrakkarConfig.notices` and is logged when a flow starts.

    Raises:
        ConfigError: with everything that is wrong, each with its place.

    >>> load_config(environ={"DRAKKAR_EXECUTOR__MAX_EXECUTORS": "8"}).executor.max_executors
    8
    """
    return load(path, overrides=overrides, environ=environ, app_model=app_model, app_env_prefix=app_env_prefix).config


def load(
    path: str | FilePath | ConfigFile | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    app_model: type[BaseModel] | None = None,
    app_env_prefix: str = "APP_",
    assignments: Sequence[str] = (),
) -> Loaded:
    """Like `load_config`, but also takes a found file, and returns the origin of each value.

    `assignments` like `kafka.brokers=localhost:9092` go over everything.
    """
    variables = os.environ if environ is None else environ
    file = path if isinstance(path, ConfigFile) else named_config(path, variables)
    root = root_with(app_model)
    prefix = app_env_prefix if app_model is not None else None
    layers = [file_layer(file, variables)]
    below = layers[0].tree
    layers.append(merge(read_environ(variables, root, prefix, below)))
    if overrides is not None:
        layers.append(from_plain(overrides, "override"))
    layers.append(merge(read_assignments(assignments, root, below)))
    return validated(merge([migrate_legacy_keys(layer) for layer in layers]), root, file)


def from_mapping(
    data: Mapping[str, Any], source: str = "config", *, app_model: type[BaseModel] | None = None
) -> DrakkarConfig:
    """Checks a nested mapping like `load_config` checks a file; `source` names it in problems.

    Raises:
        ConfigError: with everything that is wrong, each with its place.

    >>> from_mapping({"kafka": {"brokerz": "kafka:9092"}})
    Traceback (most recent call last):
    drakkar_flow.errors.ConfigError: invalid configuration:
      - config kafka.brokerz: unknown key; did you mean 'brokers'?
    """
    layer = migrate_legacy_keys(from_plain(data, source))
    return validated(merge([layer]), root_with(app_model)).config


def file_layer(file: ConfigFile, environ: Mapping[str, str]) -> Layer:
    """The values of the file; nothing without one."""
    return read_yaml(file.path, environ, file.why) if file.path is not None else Layer()


def validated(layer: Layer, root: type[DrakkarConfig] = ROOT, file: ConfigFile | None = None) -> Loaded:
    """The layer's values as a configuration.

    Raises:
        ConfigError: with everything that is wrong, each with its place.
    """
    close_lists(layer)
    problems = list(layer.problems)
    problems += [unknown_key_problem(path, layer, root) for path in overlooked_keys(layer.tree, root)]
    problems += refused_properties(layer)
    try:
        config = root.model_validate(_without_empty(layer.tree, root))
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [validation_problem(d, layer, root) for d in details if not layer.is_broken(tuple(d["loc"]))]
    if problems:
        missing = file is not None and file.path is not None and not file.path.exists()
        raise (ConfigFileMissing if missing else ConfigError)(sorted(set(problems), key=problems.index))
    notices = (*layer.notices, *config.collect_notices(layer.where))
    secrets = {filled.name: filled.value for filled in layer.filled if _is_secret(filled, root)}
    return Loaded(config.noted(notices, file, secrets), layer, notices, file or ConfigFile())


def _is_secret(filled: Filled, root: Type) -> bool:
    """True if a variable is a secret: by its name, or by its use in the configuration."""
    path, name, _ = filled
    return is_sensitive(name) or is_secret(type_at(path, root)) or any(is_sensitive(str(part)) for part in path[1:])


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
