"""Counts per user while the processes that keep them are killed: `make demo ARGS=--state`.

The flow is that of lesson 8. A single worker is killed twice, then a cluster of three with the same store: one process,
and all. With real brokers (`--brokers`) workers of a consumer group follow, whose state
is in Kafka: one is killed, one joins, one is stopped. At the end each count is compared with the visits written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.playground import PARTITIONS, Counts, embedded_broker, send

__all__ = ["MIN_VISITS", "run_state_demo", "verdict"]

lesson = import_module("examples.08_killed")

MIN_VISITS = 100
"""Fewer visits are counted before anything can be killed."""

_STALLED_S = 120.0  # without a new count the demo has failed
_STOP_S = 60.0
_LOOK_S = 0.1
_CLUSTER = 3  # processes
_BAR = 30  # characters of a full bar
_SESSION_MS = 6_000  # without a heartbeat, until the group takes the partitions of a killed worker away


class Failed(Exception):
    """A process of the demo did what it should not."""


def run_state_demo(console: Console, output: Path, visits: int, brokers: str = "") -> int:
    """Run the parts and print a verdict; 1 if a count is wrong or a process failed.

    Args:
        console: where everything is printed.
        output: an empty directory for stores and logs.
        visits: number of visits of each part.
        brokers: addresses; empty for the embedded broker, which has no part with a group.
    """
    parts = [("one worker, then a cluster of three, with a recovery store", fixed_part)]
    if brokers:
        parts.append(("a consumer group, with its state in Kafka", group_part))
    results = []
    with ExitStack() as held:
        address = brokers or held.enter_context(embedded_broker())
        where = "real brokers" if brokers else "a broker inside this process"
        console.print(f"[bold]drakkar-flow demo[/]: visits counted per user, {where} at {address}\n")
        for title, part in parts:
            console.print(f"[bold]{title}[/]")
            topics = held.enter_context(made_topics(address)) if brokers else ("visits", "visits-counted")
            stage = held.enter_context(open_stage(console, output, address, topics, visits))
            try:
                with stage.shown():
                    part(stage)
            except Failed as exc:
                console.print(f"{exc}; see the logs in {output}", style="red", markup=False)
                return 1
            results.append(stage.judge())
    if not all(results):
        console.print("[red]Counts are wrong.[/]")
        return 1
    console.print("[green]Every visit was counted once, whatever was killed when.[/]")
    return 0


# --- the parts ----------------------------------------------------------------------------------


def fixed_part(stage: Stage) -> None:
    """A worker, then a cluster, with one store."""
    store = {"runtime.recovery.dir": str(stage.output / "store"), "runtime.recovery.snapshot_interval_s": "0.5"}
    for life in ("starts", "starts again"):
        with stage.process("run", **store) as worker:
            stage.tell(f"a worker {life}")
            stage.write(0.2)
            stage.count_half(worker)
            stage.kill(worker.pid)
    with stage.process("cluster", "-n", str(_CLUSTER), **store) as supervisor:
        stage.tell("a cluster of three starts with the worker's store")
        first = stage.started(supervisor)
        stage.write(0.2)
        stage.count_half(supervisor)
        stage.kill(first[-1], expect="the other two end, and all start again")
        second = stage.started(supervisor, after=first)
        stage.write(0.2)
        stage.count_half(supervisor)
        stage.kill(*second, expect="all start again")
        stage.write()
        stage.count_all(supervisor)
        stage.stop(supervisor)
    stage.stored = stored_counts(stage.output / "store")


def group_part(stage: Stage) -> None:
    """Workers of one group, whose partitions move."""
    group = {"kafka.session_timeout_ms": str(_SESSION_MS)}
    with stage.process("run", **group) as second:
        with stage.process("run", **group) as first:
            stage.until_reading(first, second)
            stage.tell("two workers have joined the group")
            stage.write(0.4)
            stage.count_half(first)
            stage.kill(first.pid, expect=f"the other worker gets its partitions after {_SESSION_MS // 1000} s")
        stage.write(0.3)
        stage.count_half(second)
        with stage.process("run", **group) as third:
            stage.until_reading(third)
            stage.tell("a third one has joined and got some of them")
            stage.write()
            stage.count_half(third)
            stage.stop(second)
            stage.tell("the second one is stopped and hands its partitions over")
            stage.count_all(third)
            stage.stop(third)


# --- the stage ----------------------------------------------------------------------------------


class Stage:
    """The topics of a part, its visits and their counts."""

    def __init__(
        self, console: Console, output: Path, brokers: str, topics: tuple[str, str], visits: int, counts: Counts
    ) -> None:
        self.output = output
        self._logs: dict[int, Path] = {}
        self.counts = counts
        self.written: Counter[str] = Counter()
        self.stored: Counter[str] | None = None
        self._console = console
        self._brokers = brokers
        self._topics = topics
        self._visits = visits
        self._users = random.Random(visits).choices(lesson.USERS, k=visits)
        self._began_at = time.monotonic()
        self._live: Live | None = None
        self._shown_at = 0.0
        self._shown = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the counts: a table on a terminal, a line per second elsewhere."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self._table(), console=self._console, refresh_per_second=10) as self._live:
            yield
            self._live.update(self._table())

    @contextmanager
    def process(self, *command: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command of `drakkar-flow` on the lesson's flow; it does not outlive the block."""
        name, *options = command
        source, counted = self._topics
        names = {
            "kafka.source_topic": source,
            "kafka.consumer_group": source,
            "sinks.kafka.counted.topic": counted,
            "dlq.topic": f"{source}-failed",
            "logging.level": "INFO",
        }
        given = lesson.settings(self._brokers, **{**names, **settings})
        arguments = [sys.executable, "-m", "drakkar_flow", name, *options, str(lesson.__file__), *given]
        path = self.output / f"{name}-{len(self._logs)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        self._logs[process.pid] = path
        try:
            yield process
        finally:
            orphans = children(process.pid) if name == "cluster" and process.poll() is None else []
            for each in (process.pid, *orphans):
                if each != process.pid or process.poll() is None:
                    os.kill(each, signal.SIGKILL)
            process.wait()

    def kill(self, *pids: int, expect: str = "") -> None:
        """Kill processes, and read the results that they have delivered."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.tell(f"kill -9 {' '.join(map(str, pids))}" + (f": {expect}" if expect else ""))
        before = -1
        while self.counts.messages != before:
            before = self.counts.messages
            self.counts.look()

    def started(self, supervisor: subprocess.Popen[bytes], after: Sequence[int] = ()) -> list[int]:
        """Wait until a supervisor has started all processes of a cluster, and none of `after` is left."""
        deadline = time.monotonic() + _STALLED_S
        while len(found := children(supervisor.pid)) < _CLUSTER or set(found) & set(after):
            if supervisor.poll() is not None or time.monotonic() > deadline:
                raise Failed("the cluster does not start")
            time.sleep(_LOOK_S)
        return found

    def until_reading(self, *processes: subprocess.Popen[bytes]) -> None:
        """Wait until workers have partitions, as their logs say."""
        for process in processes:
            deadline = time.monotonic() + _STALLED_S
            while b"partitions_assigned" not in self._logs[process.pid].read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"process {process.pid} got no partitions")
                time.sleep(_LOOK_S)

    def write(self, share: float = 1.0) -> None:
        """Write a share of all visits, or the rest of them."""
        done = self.written.total()
        users = self._users[done : done + int(share * self._visits)]
        send(self._brokers, self._topics[0], (json.dumps({"user": user}).encode() for user in users), users)
        self.written.update(users)

    def count_half(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until half of the visits that are not counted yet are."""
        self._count((self.counts.total + self.written.total()) // 2, process)

    def count_all(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until everything that was written is counted."""
        self._count(self.written.total(), process)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process as an operator does, and read what it still delivers."""
        process.terminate()
        if process.wait(_STOP_S) != 0:
            raise Failed(f"process {process.pid} was stopped and ended with exit code {process.returncode}")
        self.counts.look()

    def tell(self, text: str) -> None:
        """Print what happens."""
        self._console.print(f"  {time.monotonic() - self._began_at:5.1f} s  {text}", markup=False)

    def judge(self) -> bool:
        """Print the end of the part; return True if every count is right."""
        counts, written = self.counts, self.written.total()
        repeated = counts.messages - written
        self._console.print(f"  {counts.total:,} of {written:,} visits counted, {repeated:,} results delivered again")
        right = verdict(self._console, written=self.written, counted=counts.of, stored=self.stored)
        self._console.print()
        return right

    def _count(self, total: int, process: subprocess.Popen[bytes]) -> None:
        counted, moved_at = self.counts.total, time.monotonic()
        while self.counts.total < total:
            now = time.monotonic()
            if process.poll() is not None:
                raise Failed(f"a process ended by itself with exit code {process.returncode}")
            if self.counts.total != counted:
                counted, moved_at = self.counts.total, now
            if now - moved_at > _STALLED_S:
                raise Failed(f"nothing was counted for {_STALLED_S:g} s")
            self.counts.look()
            self._show(now)

    def _show(self, now: float) -> None:
        if self._live is not None:
            self._live.update(self._table())
        elif now - self._shown_at >= 1.0 and self.counts.total != self._shown:
            self._shown_at, self._shown = now, self.counts.total
            self.tell(f"{self.counts.total:,} of {self.written.total():,} visits counted")

    def _table(self) -> Table:
        table = Table("user", "written", "counted", "")
        for user in lesson.USERS:
            written, counted = self.written[user], self.counts.of.get(user, 0)
            bar = "━" * (_BAR * counted // max(1, written))
            table.add_row(user, f"{written:,}", f"{counted:,}", bar if counted <= written else f"[red]{bar}[/]")
        return table


@contextmanager
def open_stage(console: Console, output: Path, brokers: str, topics: tuple[str, str], visits: int) -> Iterator[Stage]:
    """Make the stage of a part."""
    with Counts(brokers, topics[1]) as counts:
        yield Stage(console, output, brokers, topics, visits, counts)


def verdict(
    console: Console, *, written: Mapping[str, int], counted: Mapping[str, int], stored: Mapping[str, int] | None
) -> bool:
    """Print the counts of the results, and of the store if there is one; return True if all are right."""
    for user, number in sorted(written.items()):
        found = [counted.get(user, 0), *([] if stored is None else [stored.get(user, 0)])]
        in_store = "" if stored is None else f", {stored.get(user, 0):,} in the store"
        right = "[green]exact[/]" if set(found) == {number} else "[red]WRONG[/]"
        console.print(f"    {user:8}{number:6,} visits: {found[0]:6,} counted{in_store}  {right}")
    return written == counted and stored in (None, written)


def stored_counts(store: Path) -> Counter[str]:
    """The counts in a recovery store, by `drakkar-flow state export`."""
    command = [sys.executable, "-m", "drakkar_flow", "state", "export", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        found = json.loads(line)
        counts[found["key"]] += found["value"]
    return counts


def children(pid: int) -> list[int]:
    """The ids of a process's children."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(each) for each in found.split()]


@contextmanager
def made_topics(brokers: str) -> Iterator[tuple[str, str]]:
    """Make topics with new names for source, results and dead letters, and delete them afterwards."""
    source = f"demo-{uuid.uuid4().hex[:8]}-visits"
    names = [source, f"{source}-counted", f"{source}-failed"]
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    for made in admin.create_topics([NewTopic(name, PARTITIONS, -1) for name in names]).values():
        made.result(30)
    try:
        yield source, names[1]
    finally:
        mine = [name for name in admin.list_topics(timeout=30).topics if name.startswith(source)]
        for deleted in admin.delete_topics(mine).values():
            deleted.exception(30)
