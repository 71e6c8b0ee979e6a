"""Configuration file that was chosen, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PATH_VARIABLES", "ConfigFile"]

PATH_VARIABLES: Final = ("DRAKKAR_CONFIG", "DK_CONFIG")
"""The variables that name the configuration file, the first one set wins."""


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
    """Searched places of the file, in order; empty if it was named."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.path} ({self.why})" if self.why else str(self.path)
        looked = ", ".join(map(str, self.looked_for)) or f"{' and '.join(PATH_VARIABLES)} in the environment"
        return f"no file; looked for {looked}"
