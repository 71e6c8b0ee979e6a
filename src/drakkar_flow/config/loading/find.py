"""Search for the configuration file: the one that is named, or the first at the usual places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drakkar_flow.config.config_file import PATH_VARIABLES, ConfigFile
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["find_config", "named_config"]

_ENDINGS: Final = (".yaml", ".yml")


def named_config(path: str | Path | None, environ: Mapping[str, str]) -> ConfigFile:
    """The file at `path`, else the one that `DRAKKAR_CONFIG` or `DK_CONFIG` names, else none."""
    if path is not None:
        return ConfigFile(Path(path))
    for name in PATH_VARIABLES:
        if environ.get(name):
            return ConfigFile(Path(environ[name]), f"the environment variable {name} names it")
    return ConfigFile()


def find_config(
    path: str | Path | None, environ: Mapping[str, str], flow_file: Path | None = None, directory: Path | None = None
) -> ConfigFile:
    """The file that is named, else the first of these that exists.

    1. beside the flow's file, with its name: `scan.yaml` for `scan.py`
    2. beside the flow's file: `drakkar.yaml`
    3. in the working directory (`directory`): `drakkar.yaml`

    each with the ending `.yaml` or `.yml`. Whether a named file exists is not looked at.

    Raises:
        ConfigError: both endings exist, so that either could be meant.
    """
    named = named_config(path, environ)
    if named.path is not None:
        return named
    places = [(Path.cwd() if directory is None else directory) / "drakkar"]
    if flow_file is not None:
        places = [flow_file.with_suffix(""), flow_file.parent / "drakkar", *places]
    looked: list[Path] = []
    for stem in dict.fromkeys(place.absolute() for place in places):
        both = [stem.with_name(stem.name + ending) for ending in _ENDINGS]
        looked += both
        found = [file for file in both if file.exists()]
        if len(found) > 1:
            what = f"stands beside {found[1].name}: either could be the configuration"
            raise ConfigError([Problem(str(found[0]), what, "remove one, or name one with --config")])
        if found:
            beside = flow_file is not None and stem.parent == flow_file.absolute().parent
            return ConfigFile(found[0], "beside the flow" if beside else "in the working directory", tuple(looked))
    return ConfigFile(looked_for=tuple(looked))
