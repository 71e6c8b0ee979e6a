"""Jars of servers, fetched by Maven once and shared by all checkouts of a user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.servers.process import ServerError

__all__ = ["fetch"]


def fetch(name: str, pom: Path) -> Path:
    """The folder with the jars that a pom names; `name` carries their version.

    Raises:
        ServerError: Maven failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drakkar-flow"
    libs = cache / name
    if libs.is_dir():
        return libs
    print(f"fetching {name} (once)", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        argv = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}/libs"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"Maven could not fetch {name}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        try:
            Path(folder, "libs").rename(libs)
        except OSError:
            if not libs.is_dir():  # somebody else was quicker, otherwise
                raise
    return libs
