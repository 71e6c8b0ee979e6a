#!/usr/bin/env python3
"""Real servers for tests, benchmarks and a look around, as plain processes: `python -m scripts.services --help`.

The servers of a checkout are written down in `.services/state.json` and run until `down`; `run` starts what is
missing, runs a command with their addresses in its environment, and stops what it started. A test that breaks
servers makes its own: `KafkaCluster(tmp_path)`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if not __package__:  # run as a file: the package it belongs to is not on the path yet
    sys.path.insert(0, str(ROOT))

from scripts.servers.kafka import KafkaCluster  # noqa: E402  (see above)
from scripts.servers.mongo import Mongo  # noqa: E402
from scripts.servers.postgres import Postgres  # noqa: E402
from scripts.servers.process import ServerError  # noqa: E402
from scripts.servers.redis import Redis  # noqa: E402
from scripts.servers.single import SingleServer  # noqa: E402

__all__ = ["PACKAGES", "VARIABLES", "KafkaCluster", "ServerError", "Services", "missing_programs"]

Server = KafkaCluster | SingleServer
"""Has start(), stop(), healthy(), members(), state(), restore() and address."""
KINDS: Mapping[str, type[Server]] = {"kafka": KafkaCluster, "postgres": Postgres, "redis": Redis, "mongo": Mongo}
VARIABLES = {kind: f"DRAKKAR_TEST_{kind.upper()}" for kind in KINDS}
"""The environment variable that carries the address of each kind."""
PACKAGES = {
    "kafka": {"java": "default-jre-headless", "mvn": "maven"},
    "postgres": {"pg_isready": "postgresql", "setpriv": "util-linux"},
    "redis": {"redis-server": "redis-server"},
    "mongo": {"javac": "default-jdk-headless", "mvn": "maven"},
}
"""The Debian package of each program that a kind of server needs."""

EXIT_NOT_RUNNING = 3
EXIT_MISSING = 2


class Services:
    """The servers of one checkout.

    Args:
        directory: holds `state.json`, and a folder per server with its logs.
    """

    def __init__(self, directory: Path = ROOT / ".services") -> None:
        self.directory = directory

    def running(self) -> dict[str, Server]:
        """The servers that the state file names, healthy or not."""
        try:
            state: dict[str, dict[str, Any]] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return {kind: KINDS[kind].restore(entry) for kind, entry in state.items()}

    def up(self, kind: str, brokers: int | None = None) -> bool:
        """Start a server unless a healthy one of the wanted size is there; says whether it started one.

        Args:
            kind: a key of `KINDS`.
            brokers: how many, of Kafka; None takes what is there, or one.
        """
        if not issubclass(KINDS[kind], KafkaCluster):
            brokers = None
        with self._locked():
            servers = self.running()
            if (server := servers.get(kind)) is not None:
                if server.healthy() and brokers in (None, len(server.members())):
                    return False
                server.stop()
            servers[kind] = _make(kind, self.directory / kind, brokers or 1)
            servers[kind].start()
            try:
                self._write(servers)
            except BaseException:
                servers[kind].stop()
                raise
            return True

    def down(self) -> list[str]:
        """Stop all servers, whatever became of them, and say which there were; their logs stay."""
        with self._locked():
            servers = self.running()
            for server in servers.values():
                server.stop()
            self._file.unlink(missing_ok=True)
            return list(servers)

    def change(self, action: Callable[[KafkaCluster], None]) -> None:
        """Do something to the Kafka cluster and write down what became of it.

        Raises:
            ServerError: there is none.
        """
        with self._locked():
            servers = self.running()
            cluster = servers.get("kafka")
            if not isinstance(cluster, KafkaCluster):
                raise ServerError("kafka is not up; start it with: make services-up")
            try:
                action(cluster)
            finally:
                self._write(servers)

    def environment(self) -> dict[str, str]:
        """The addresses of the healthy servers, as environment variables."""
        return {VARIABLES[kind]: server.address for kind, server in self.running().items() if server.healthy()}

    @property
    def _file(self) -> Path:
        return self.directory / "state.json"

    def _write(self, servers: Mapping[str, Server]) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({kind: server.state() for kind, server in servers.items()}, indent=2))
        new.replace(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One program at a time changes the servers of a checkout."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _make(kind: str, directory: Path, brokers: int) -> Server:
    made = KINDS[kind]
    return made(directory, brokers) if issubclass(made, KafkaCluster) else made(directory)


def missing_programs(kinds: Iterable[str] = ("kafka",)) -> list[str]:
    """The programs that kinds of servers need and the machine lacks."""
    return [program for program in _packages(kinds) if shutil.which(program) is None]


def _packages(kinds: Iterable[str]) -> dict[str, str]:
    return {program: package for kind in kinds for program, package in PACKAGES[kind].items()}


def install_programs(kinds: Iterable[str]) -> None:
    """Install what kinds of servers need and the machine lacks.

    Raises:
        SystemExit: with 2, when this needs somebody with more rights; the command is printed.
    """
    needed = _packages(kinds)
    packages = sorted({needed[program] for program in missing_programs(kinds)})
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing programs; run: sudo apt-get update && sudo apt-get install -y {' '.join(packages)}")
        raise SystemExit(EXIT_MISSING)
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        argv = ["apt-get", "-q", *command]
        subprocess.run(argv, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def run(services: Services, kinds: list[str], command: list[str]) -> int:
    """Run a command with servers up, and give back its exit code (128 + n after signal n).

    The command ends in its own way: SIGINT reaches it from the terminal, SIGTERM is handed on, and both are waited for.
    """
    started = [services.up(kind) for kind in kinds]
    try:
        with _signals() as seen, subprocess.Popen(command, env=os.environ | services.environment()) as child:
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=0.5)
                if signal.SIGTERM in seen:
                    seen.clear()
                    child.terminate()
            return child.returncode if child.returncode >= 0 else 128 - child.returncode
    finally:
        if any(started):
            services.down()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; unlike SIG_IGN, this is not inherited by children."""
    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _frame: seen.append(number))
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(services: Services, *, as_json: bool) -> int:
    """Print what runs; 0 if everything is well, 3 if something or everything is down."""
    servers = services.running()
    report = {
        kind: {
            "address": server.address,
            "healthy": server.healthy(),
            "members": server.members(),
        }
        for kind, server in servers.items()
    }
    print(json.dumps(report, indent=2) if as_json else _as_text(report))
    return 0 if servers and all(server.healthy() for server in servers.values()) else EXIT_NOT_RUNNING


def _as_text(report: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"{kind} {member['node']}  {'healthy' if member['healthy'] else 'down':8} "
        f"127.0.0.1:{member['port']}  pid {member['pid'] or '-'}  {member['log']}"
        for kind, server in report.items()
        for member in server["members"]
    ]
    return "\n".join(lines) or "nothing is up; start with: make services-up"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="services", description="Real servers as plain processes.")
    commands = parser.add_subparsers(dest="command", required=True)
    kinds = {"nargs": "*", "metavar": "SERVER", "help": f"one or more of: {', '.join(KINDS)} (all)"}
    up = commands.add_parser("up", help="start servers and leave them running")
    up.add_argument("servers", **kinds)  # type: ignore[arg-type]  # one dict for two options
    up.add_argument("--brokers", type=int, help="how many Kafka brokers (1)")
    commands.add_parser("down", help="stop all servers")
    report = commands.add_parser("status", help="say what runs")
    report.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("env", help="print the addresses as shell exports")
    runner = commands.add_parser("run", help="run SERVER... -- COMMAND... with servers up")
    runner.add_argument("servers", **kinds)  # type: ignore[arg-type]  # as above
    for action, text in {"start": "start it again", "stop": "SIGTERM", "kill": "SIGKILL"}.items():
        one = commands.add_parser(f"{action}-broker", help=f"one Kafka broker: {text}")
        one.add_argument("node", type=int)
    return parser


def main(argv: list[str]) -> int:
    """Do what the command line says, and give back the exit code."""
    split = argv.index("--") if "--" in argv else len(argv)
    arguments, services = _parser().parse_args(argv[:split]), Services()
    wanted = getattr(arguments, "servers", None) or list(KINDS)
    if unknown := set(wanted) - set(KINDS):
        print(f"no such server: {', '.join(sorted(unknown))}; there is: {', '.join(KINDS)}", file=sys.stderr)
        return EXIT_MISSING
    match arguments.command:
        case "up":
            install_programs(wanted)
            for kind in wanted:
                services.up(kind, arguments.brokers)
            return status(services, as_json=False)
        case "down":
            print(f"stopped: {', '.join(services.down()) or 'nothing was up'}")
        case "status":
            return status(services, as_json=arguments.json)
        case "env":
            print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in services.environment().items()))
        case "run":
            install_programs(wanted)
            return run(services, wanted, argv[split + 1 :])
        case action:
            method = action.replace("-", "_")
            services.change(lambda cluster: getattr(cluster, method)(arguments.node))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ServerError as error:
        sys.exit(f"services: {error}")
