"""Prometheus' programs: those of PATH, or a private copy of Debian's package, which installs and starts nothing.

`python -m scripts.monitoring.promtool` fetches the copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["fetch", "find"]

_WAIT_S = 120  # without a network apt-get tries for much longer

COPY = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drakkar-flow" / "prometheus"


def find(program: str) -> str | None:
    """Return the path of `promtool` or `prometheus`; None if neither PATH nor the copy has it."""
    return shutil.which(program) or shutil.which(program, path=COPY / "usr" / "bin")


def fetch() -> str:
    """Unpack Debian's package below the user's cache and return the path of promtool.

    Raises:
        OSError: there is no apt-get or dpkg.
        subprocess.SubprocessError: apt-get has no such package, or no answer.
    """
    if (found := find("promtool")) is not None:
        return found
    with tempfile.TemporaryDirectory() as folder:
        if not _apt_get("download", "prometheus", folder=folder):
            _apt_get("update", folder=folder)  # the lists of packages may be missing or old
            _apt_get("download", "prometheus", folder=folder, check=True)
        (package,) = Path(folder).glob("prometheus_*.deb")
        COPY.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", package, COPY], check=True)
    return str(COPY / "usr" / "bin" / "promtool")


def _apt_get(*arguments: str, folder: str, check: bool = False) -> bool:
    argv = ["apt-get", "-q", *arguments]
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=check, timeout=_WAIT_S)
    return done.returncode == 0


if __name__ == "__main__":
    try:
        print(fetch())
    except (OSError, subprocess.SubprocessError) as exc:
        print(f"promtool: {exc}; the tests of the alerts are skipped: put promtool on PATH", file=sys.stderr)
