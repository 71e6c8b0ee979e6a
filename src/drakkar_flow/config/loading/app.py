"""The `app` section: settings of the user's own, typed by a model of theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from drakkar_flow.config.loading.environ import read_environ
from drakkar_flow.config.loading.find import named_config
from drakkar_flow.config.loading.layers import Layer, from_plain, merge
from drakkar_flow.config.loading.load import file_layer, validated
from drakkar_flow.config.loading.validation_errors import unknown_key_problem, validation_problem
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import overlooked_keys, root_with
from drakkar_flow.errors import ConfigError

__all__ = ["load_app_config", "resolve_app"]

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_app_config(
    model: type[ModelT],
    config_path: str | FilePath | None = None,
    *,
    section: str = "app",
    env_prefix: str = "APP_",
    yaml_data: Mapping[str, Any] | None = None,
) -> ModelT:
    """Reads one section of a configuration file, and the environment, into a user-defined model.

    The file is `config_path`, else the one `DRAKKAR_CONFIG` or `DK_CONFIG` names, else none; `yaml_data` is a file's
    content that was read already. The variable `APP_DB__HOST` sets `db.host`. The rest of the file is not looked at.
    A handler needs none of this: it names its model as `app_config_model`.

    Raises:
        ConfigError: with everything that is wrong, each with its place.

    >>> class Limits(BaseModel):
    ...     rows: int = 10
    >>> load_app_config(Limits, yaml_data={"app": {"rows": 3}}).rows
    3
    """
    root = root_with(model)
    own = Layer()
    if yaml_data is None:
        layer = file_layer(named_config(config_path, os.environ), os.environ)
    else:
        layer = from_plain(yaml_data, "yaml_data")
    if section in layer.tree:
        own.tree["app"] = layer.tree[section]
        own.origins = {("app", *path[1:]): origin for path, origin in layer.origins.items() if path[:1] == (section,)}
    own.origins[()] = layer.origins.get((), "")
    own.problems = layer.problems
    variables = [each for each in read_environ(os.environ, root, env_prefix, own.tree) if "app" in each.tree]
    app: ModelT = validated(merge([own, *variables]), root).config.app
    return app


def resolve_app(config: DrakkarConfig, model: type[BaseModel] | None) -> DrakkarConfig:
    """The configuration with its `app` section as an instance of the model, if it is not one already.

    For configurations that were read before the handler was known, so that problems have no line.

    Raises:
        ConfigError: with everything that is wrong with the section.
    """
    if model is None or isinstance(config.app, model):
        return config
    root = root_with(model)
    layer = Layer(tree={"app": config.app})
    problems = [unknown_key_problem(path, layer, root) for path in overlooked_keys(layer.tree, root)]
    try:
        typed = root(**dict(config)).noted(config.notices, config.file, config.secret_variables)
    except ValidationError as error:
        problems += [validation_problem(details, layer, root) for details in error.errors(include_url=False)]
    if problems:
        raise ConfigError(problems)
    return typed
