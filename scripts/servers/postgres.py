"""PostgreSQL as Debian packages it, in a cluster of its own that trusts everybody on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scripts.servers.process import ServerError
from scripts.servers.single import SingleServer

__all__ = ["Postgres", "program"]

OWNER = "postgres"  # whom the package makes: the server refuses to run as root


class Postgres(SingleServer):
    """One server with the superuser and the database `drakkar`."""

    kind = "postgres"

    @property
    def address(self) -> str:
        """A connection string."""
        return f"postgresql://drakkar@127.0.0.1:{self.port}/drakkar"

    def answers(self) -> bool:
        """Whether it accepts connections."""
        argv = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-d", "drakkar", "-U", "drakkar"]
        return subprocess.run(argv, check=False).returncode == 0

    def prepare(self) -> list[str]:
        """Make a cluster without caring for a power cut, and the database."""
        if os.geteuid() == 0:
            shutil.chown(self.data, OWNER, OWNER)
        self._run("initdb", "-D", str(self.data), "-U", "drakkar", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        single = ["postgres", "--single", "-D", str(self.data), "postgres"]
        self._run(*single, stdin="CREATE DATABASE drakkar\n")
        return self.command()

    def command(self) -> list[str]:
        """The command line that serves the data."""
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*_as_owner(), program("postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def _run(self, name: str, *arguments: str, stdin: str = "") -> None:
        argv = [*_as_owner(), program(name), *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, cwd="/")
        with self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise ServerError(f"{name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def program(name: str) -> str:
    """A program of PostgreSQL; Debian keeps most of them off the PATH.

    Raises:
        ServerError: it is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise ServerError(f"there is no {name}; install postgresql")
    return path


def _as_owner() -> list[str]:
    return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"] if os.geteuid() == 0 else []
