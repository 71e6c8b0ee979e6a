"""A worker as users have it: a process of its own that is started, watched, signalled and never left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from support.names import unique
from support.until import until

__all__ = ["ROOT", "Worker"]

ROOT = Path(__file__).resolve().parents[2]
_MARK = "WORKER_UNDER_TEST"


class Worker:
    """A process in its own process group; whatever it starts inherits a mark by which it is found again.

    Args:
        arguments: what follows `python`.
        directory: where its two output files go; also its working directory.
        environment: laid over this process's.
    """

    def __init__(
        self, arguments: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.mark = unique("worker")
        self._directory = directory
        self._stdout = directory / f"{self.mark}.out"
        self._stderr = directory / f"{self.mark}.err"
        given = (environment or {}).get("PYTHONPATH", "")
        paths = os.pathsep.join([str(ROOT / "src"), given])
        variables = {**os.environ, **(environment or {}), "PYTHONPATH": paths, _MARK: self.mark}
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    # --- looking --------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """Everything it printed so far."""
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """Everything it logged so far."""
        return self._stderr.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative after a signal; None while it runs."""
        return self._process.poll()

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 90.0) -> None:
        """Wait for a condition; a worker that ends before fails the test with what it logged."""

        def met() -> bool:
            if condition():
                return True
            assert self.exit_code is None, f"the worker ended with {self.exit_code} before {what}:\n{self.stderr}"
            return False

        until(met, timeout_s, what)

    def until_running(self) -> None:
        """Wait until it has started everything and begins to read."""
        self.until(lambda: '"drakkar_running"' in self.stderr, "it was running", 120)

    def get(self, path: str) -> tuple[int, str]:
        """The status and content of a page of its server, which must be on a port of its own choice; 0 before it is."""
        for connection in psutil.Process(self.pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{connection.laddr.port}{path}", timeout=60) as page:
                        return page.status, page.read().decode()
                except urllib.error.HTTPError as answer:
                    with answer:
                        return answer.code, answer.read().decode()
        return 0, ""

    def metrics(self) -> str:
        """Its metrics page (`metrics.port: 0`)."""
        return self.get("/metrics")[1]

    def metric(self, name: str) -> float | None:
        """The sum of a metric's samples on its page, None while there are none."""
        samples = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.metrics(), re.MULTILINE)
        return sum(map(float, samples)) if samples else None

    def by_partition(self, name: str) -> dict[int, float]:
        """A metric's samples on its page, by partition."""
        samples = re.findall(rf'^{name}\{{.*partition="(\d+)".*\}} (\S+)$', self.metrics(), re.MULTILINE)
        return {int(partition): float(value) for partition, value in samples}

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def descendants(self) -> list[psutil.Process]:
        """Every process that it started, directly or not, also when it is dead itself."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != self.pid and process.environ().get(_MARK) == self.mark:
                    found.append(process)
        return found

    # --- ending ---------------------------------------------------------------------------------

    def send(self, number: int) -> None:
        """Send it a signal; only to the process itself, as a supervisor does."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 90.0) -> int:
        """Wait for its end and give its exit code; fails the test when it does not end."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {timeout_s:g} s:\n{self.stderr[-4000:]}") from None

    def terminate(self, number: int = signal.SIGTERM, timeout_s: float = 90.0) -> int:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, as the kernel's memory killer does."""
        self.terminate(signal.SIGKILL)

    def close(self) -> None:
        """Kill it and everything it started, whatever state they are in."""
        if self.exit_code is None:
            self._process.kill()
            self._process.wait(10)
        for process in self.descendants():
            with suppress(psutil.Error):
                process.kill()
