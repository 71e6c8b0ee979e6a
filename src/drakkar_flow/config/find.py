"""Search for the configuration file: the one that is named, or the first at the usual places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drakkar_flow.errors import ConfigError, Problem

__all__ = ["PATH_VARIABLES", "ConfigFile", "find_config", "named_config"]

PATH_VARIABLES: Final = ("DRAKKAR_CONFIG", "DK_CONFIG")
"""The variables that name the configuration file, the first one set wins."""
_ENDINGS: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file the configuration is read from, and why just this one; `path` is None when there is none.

    >>> str(ConfigFile(Path("drakkar.yaml"), "in the working directory"))
    'drakkar.yaml (in the working directory)'
    >>> str(ConfigFile(looked_for=(Path("scan.yaml"), Path("drakkar.yaml"))))
    'no file; looked for scan.yaml, drakkar.yaml'
    """

    path: Path | None = None
    why: str = ""
    looked_for: tuple[Path, ...] = ()
    """Where a file could have stood, in the order they were looked for; empty when it was named."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.path} ({self.why})" if self.why else str(self.path)
        looked = ", ".join(map(str, self.looked_for)) or f"{' and '.join(PATH_VARIABLES)} in the environment"
        return f"no file; looked for {looked}"


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
