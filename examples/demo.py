"""The main job, flows/pipeline.py, at work: `make demo`.

Starts a Kafka broker inside this process, asks for a few thousand searches over the source files of Python's own
library, runs one grep for each, and shows where the results went. Everything it makes is in `demo-output/`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sysconfig
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from drakkar_flow import DrakkarConfig, StreamingRunner, load_config
from drakkar_flow.errors import ProblemsError
from drakkar_flow.observe.statistics import StatisticsSnapshot
from examples.playground import PARTITIONS, embedded_broker, read, run_until, send
from examples.screen import make_screen
from flows.pipeline import flow

OUTPUT = Path("demo-output")
PIPELINE = Path(__file__).parent.parent / "flows" / "pipeline.yaml"
PATTERNS = ["import asyncio", "raise NotImplementedError", "def __init__(", "errno.", "yield from", "XXX"]
BROKEN = [b'{"path": "no-pattern.py"}', b'{"path": "/no/such/file.py", "pattern": "import"}']

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; 0 when every search was answered, or when Ctrl-C ended it in order."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="See drakkar-flow work.")
    parser.add_argument("--records", type=int, default=3000, help="how many searches (default 3000)")
    wanted = max(parser.parse_args().records, len(BROKEN))
    try:
        return demo(wanted)
    except ProblemsError as exc:
        console.print(str(exc), style="red", markup=False)
        return exc.exit_code
    except KeyboardInterrupt:
        console.print("Stopped before anything was read.")
        return 130


def demo(wanted: int) -> int:
    """Make the input, run the flow over it, tell what came of it."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    searches = make_searches(wanted)
    asked = OUTPUT / "searches.jsonl"
    asked.write_bytes(b"".join(line + b"\n" for line in searches))
    with embedded_broker() as brokers:
        config = settings(brokers)
        count = send(brokers, config.kafka.source_topic, searches)
        console.print("[bold]drakkar-flow demo[/]: flows/pipeline.py at work, one grep for each record\n")
        tell("broker", f"embedded, at {brokers}")
        tell("input", f"{count:,} searches in Python's library, sent to topic {config.kafka.source_topic} ({asked})")
        tell("at a time", f"{config.executor.max_executors} processes; Ctrl-C drains and stops\n")
        runner = StreamingRunner(flow, config)
        started = time.monotonic()
        with make_screen(console, count) as screen:
            exit_code = run_until(runner, count, screen.show)
        console.print()
        statistics = runner.statistics()
        summarise(statistics, count, screen.busy_s or time.monotonic() - started)
        answered = show_outputs(brokers, config, statistics)
        console.print()
        tell("log", str(OUTPUT / "drakkar.log"))
    if runner.failure:
        console.print(f"\nThe flow failed: {runner.failure}", style="red", markup=False)
        return exit_code
    finished = statistics.totals.records_finished
    if finished < count:
        console.print(f"\nStopped in order: {count - finished:,} records were not taken; the next run would read them.")
        return 0
    if answered != count:
        console.print(f"\n{count:,} searches, but {answered:,} answers.", style="red")
        return 1
    console.print(f"\n[green]Every one of the {count:,} searches has its answer, and its offset is committed.[/]")
    return exit_code


def make_searches(wanted: int) -> list[bytes]:
    """Records for the flow: some pattern in some file of Python's library; the last two can't succeed."""
    searches = list(all_searches())
    random.Random(1).shuffle(searches)
    return searches[: wanted - len(BROKEN)] + BROKEN


def all_searches() -> Iterator[bytes]:
    """Every pattern in every file."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if not {"site-packages", "test", "tests"}.intersection(path.parts):
            for pattern in PATTERNS:
                yield json.dumps({"path": str(path), "pattern": pattern}).encode()


def settings(brokers: str) -> DrakkarConfig:
    """The settings of the flow itself, with this broker, this directory, a log file and no metrics port."""
    overrides = {
        "kafka": {"brokers": brokers, "client_config": {"log_level": 0}},
        "sinks": {
            "sqlite": {"found": {"path": str(OUTPUT / "found.db")}},
            "filesystem": {"found": {"base_path": str(OUTPUT)}},
        },
        "metrics": {"enabled": False},
        "logging": {"output": str(OUTPUT / "drakkar.log")},
    }
    return load_config(PIPELINE, overrides=overrides, environ={})


def summarise(statistics: StatisticsSnapshot, count: int, busy_s: float) -> None:
    """Print what the flow counted and measured."""
    totals = statistics.totals
    finished, tasks = totals.records_finished, totals.tasks_completed + totals.tasks_failed
    tell(
        "records",
        f"{finished:,} of {count:,} finished in {busy_s:.1f} s, {finished / busy_s:,.0f} per second; "
        f"{totals.records_dead} dead letters (put there on purpose)",
    )
    nothing = totals.tasks_precomputed
    tell(
        "tasks",
        f"{tasks:,} processes: {totals.tasks_completed:,} found something, {nothing:,} found nothing, "
        f"{totals.tasks_failed - nothing:,} failed",
    )
    tell("one task", f"p50 {statistics.task_p50_s * 1e3:.1f} ms, p99 {statistics.task_p99_s * 1e3:.1f} ms")
    tell("one record", f"p50 {statistics.record_p50_s:.2f} s, p99 {statistics.record_p99_s:.2f} s, waiting included")


def show_outputs(brokers: str, config: DrakkarConfig, statistics: StatisticsSnapshot) -> int:
    """Print what the broker and the files hold now; returns how many answers that is."""
    source, found, letters = config.kafka.source_topic, config.sinks.kafka["found"].topic, config.dead_letter_topic
    tell("committed", "  ".join(f"{source}:{n} at {offset}" for n, offset in committed(brokers, config).items()))
    if not statistics.totals.records_finished:
        return 0
    messages, dead = read(brokers, found), read(brokers, letters)
    database, lines = OUTPUT / "found.db", (OUTPUT / "found.jsonl").read_text().splitlines()
    with closing(connect(database)) as connection:
        rows = connection.execute("SELECT count(*) FROM found").fetchone()[0]
        best = connection.execute(
            "SELECT pattern, count(*), sum(matches > 0), sum(matches) FROM found GROUP BY pattern ORDER BY 4 DESC"
        ).fetchall()
    console.print()
    tell("Kafka", f"{len(messages):,} messages in topic {found}, {len(dead)} in {letters}")
    tell("SQLite", f"{rows:,} rows in {database}")
    tell("JSON lines", f"{len(lines):,} lines in {OUTPUT / 'found.jsonl'}")
    console.print("\n[bold]From SQLite[/], the lines found for each pattern (at most 20 of a file):")
    for pattern, files, hits, total in best:
        console.print(f"  {pattern:28}{total:6,} lines in {hits:,} of {files:,} files", markup=False)
    console.print(f"\n[bold]From topic {found}[/]:")
    for message in [one for one in messages if b'"lines":[]' not in (one.value() or b"")][:3]:
        console.print("  " + shortened((message.value() or b"").decode()), markup=False)
    console.print(f"\n[bold]From topic {letters}[/], what could not be done:")
    for message in dead:
        console.print("  " + shortened((message.value() or b"").decode()), markup=False)
    return len(dead) + (rows if rows == len(messages) == len(lines) else 0)


def committed(brokers: str, config: DrakkarConfig) -> dict[int, int]:
    """What the broker itself says about the group's offsets."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": config.kafka.consumer_group, "log_level": 0})
    try:
        partitions = [TopicPartition(config.kafka.source_topic, number) for number in range(PARTITIONS)]
        return {each.partition: max(each.offset, 0) for each in consumer.committed(partitions, timeout=10)}
    finally:
        consumer.close()


def tell(what: str, text: str) -> None:
    """Print a line of facts."""
    console.print(f"  [cyan]{what:11}[/]{text}")


def shortened(text: str) -> str:
    """Text that fits a line."""
    return text if len(text) <= 110 else text[:107] + "..."


if __name__ == "__main__":
    raise SystemExit(main())
