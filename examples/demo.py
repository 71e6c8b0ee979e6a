"""The main job, flows/pipeline.py, at work: `make demo`. With `--state`: counts that survive kills (state_demo.py).

Starts an in-process Kafka broker, requests a few thousand searches in the source files of Python's
library, runs one grep for each, and shows the results. Its output is in `demo-output/`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import cast

from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaPartition
from rich.console import Console

from drakkar_flow import DrakkarConfig, StreamingRunner, load_config
from drakkar_flow.errors import ProblemsError
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot
from examples.playground import PARTITIONS, embedded_broker, read, run_until, send
from examples.screen import make_screen
from examples.state_demo import MIN_VISITS, run_state_demo
from flows.pipeline import flow

OUTPUT = Path("demo-output")
PIPELINE = Path(__file__).parent.parent / "flows" / "pipeline.yaml"
LIBRARY = Path(sysconfig.get_path("stdlib"))
PATTERNS = ["def __init__(", "import os", "raise ValueError", "lambda", "yield", "XXX"]
BROKEN = [b'{"path": "no-pattern.py"}', b'{"path": "/no/such/file.py", "pattern": "import"}']

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; 0 if every search was answered, or if Ctrl-C ended it in order."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="See drakkar-flow work.")
    parser.add_argument("--records", type=int, default=0, help="how many searches (default 3000) or visits (6000)")
    parser.add_argument("--state", action="store_true", help="counts per user, exact over kills")
    parser.add_argument("--brokers", default="", help="with --state: real brokers, for the part with a consumer group")
    given = parser.parse_args()
    if given.brokers and not given.state:
        parser.error("--brokers needs --state: the other demo has a broker inside itself")
    try:
        shutil.rmtree(OUTPUT, ignore_errors=True)
        OUTPUT.mkdir()
        if given.state:
            return run_state_demo(console, OUTPUT, max(given.records or 6000, MIN_VISITS), given.brokers)
        return demo(max(given.records or 3000, len(BROKEN)))
    except ProblemsError as exc:
        console.print(str(exc), style="red", markup=False)
        return exc.exit_code
    except KeyboardInterrupt:
        console.print("Stopped before anything was read.")
        return 130


def demo(wanted: int) -> int:
    """Make the input, run the flow over it, print the results."""
    searches = make_searches(wanted)
    asked = OUTPUT / "searches.jsonl"
    asked.write_bytes(b"".join(line + b"\n" for line in searches))
    console.print("[bold]drakkar-flow demo[/]: flows/pipeline.py, one grep for each record\n")
    with embedded_broker() as brokers:
        config = settings(brokers)
        count = send(brokers, config.kafka.source_topic, searches)
        tell("broker", f"inside this process, at {brokers}")
        tell("input", f"{count:,} searches in the source files of Python's library: {asked}")
        tell("log", f"{OUTPUT / 'drakkar.log'}\n")
        runner = StreamingRunner(flow, config)
        with make_screen(console, count) as screen:
            exit_code = run_until(runner, count, screen.show)
        statistics = runner.statistics()
        finished, complete = statistics.totals.records_finished, True
        if finished:
            summarise(statistics, count, screen.busy_s, config.executor.max_executors)
            complete = show_outputs(brokers, config)
    return conclude(count, count - finished, exit_code, runner.failure, complete=complete)


def conclude(count: int, left: int, exit_code: int, failure: str | None, *, complete: bool) -> int:
    """Print the result; returns the exit code of the demo."""
    console.print()
    if failure:
        console.print(f"The flow failed: {failure}", style="red", markup=False)
        return exit_code
    if not complete:
        console.print("The outputs don't match the committed records.", style="red")
        return 1
    if left:
        console.print(
            "Stopped in order: the records in flight are finished and committed, "
            f"{left:,} records wait for the next run."
        )
    else:
        console.print(f"[green]Each of the {count:,} searches was answered in all three places or is a dead letter.[/]")
    return exit_code


def make_searches(wanted: int) -> list[bytes]:
    """Records for the flow: some pattern in some file of Python's library; the last two can't succeed."""
    searches = list(all_searches())
    random.Random(1).shuffle(searches)
    return searches[: wanted - len(BROKEN)] + BROKEN


def all_searches() -> Iterator[bytes]:
    """Every pattern in every file."""
    for path in sorted(LIBRARY.rglob("*.py")):
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


def summarise(statistics: StatisticsSnapshot, count: int, busy_s: float, slots: int) -> None:
    """Print the flow's counts and durations."""
    totals = statistics.totals
    finished, nothing = totals.records_finished, totals.tasks_precomputed
    console.print()
    tell("records", f"{finished:,} of {count:,} in {busy_s:.1f} s: {finished / busy_s:,.0f} per second")
    tell("tasks", f"{totals.tasks_completed + totals.tasks_failed:,} processes, {slots} at a time:")
    tell("", f"  {totals.tasks_completed:,} found something")
    tell("", f"  {nothing:,} found nothing: grep's exit code 1, for which on_error gives an empty result")
    again = f", {totals.task_retries} run again" if totals.task_retries else ""
    tell("", f"  {totals.tasks_failed - nothing:,} failed{again}")
    tell("one task", f"p50 {statistics.task_p50_s * 1e3:.1f} ms, p99 {statistics.task_p99_s * 1e3:.1f} ms")
    latency = f"p50 {statistics.record_p50_s:.1f} s, p99 {statistics.record_p99_s:.1f} s"
    tell("one record", f"{latency}: all records were there from the start and queued")


def show_outputs(brokers: str, config: DrakkarConfig) -> bool:
    """Print the contents of broker and files; returns True for exactly one answer per committed record."""
    source, found, letters = config.kafka.source_topic, config.sinks.kafka["found"].topic, config.dead_letter_topic
    offsets = committed(brokers, config)
    each = " + ".join(f"{offset:,}" for offset in offsets.values())
    tell("committed", f"{sum(offsets.values()):,} records: {each} in the partitions of topic {source}")
    messages, dead = read(brokers, found), read(brokers, letters)
    lines = (OUTPUT / "found.jsonl").read_text().splitlines() if messages else []
    rows = show_table(OUTPUT / "found.db") if messages else 0
    console.print(f"\n[bold]{len(messages):,} messages in Kafka topic {found}[/], for instance")
    for message in [one for one in messages if b'"lines":[]' not in (one.value() or b"")][:3]:
        answer = json.loads(message.value() or b"")
        console.print(f"  {base_name(answer['path'])}:{answer['lines'][0][:70]}", markup=False)
    console.print(f"\n[bold]{len(lines):,} JSON lines[/] in {OUTPUT / 'found.jsonl'}")
    console.print(f"\n[bold]{len(dead):,} dead letters in Kafka topic {letters}[/], put there on purpose:")
    for message in dead:
        console.print(f"  {(message.value() or b'').decode()}\n    {reason(message)}", markup=False)
    return len(dead) + rows == sum(offsets.values()) and rows == len(messages) == len(lines)


def show_table(database: Path) -> int:
    """Print the table's rows per pattern; returns the number of rows."""
    with closing(connect(database)) as connection:
        rows = connection.execute("SELECT count(*) FROM found").fetchone()[0]
        found = connection.execute(
            "SELECT pattern, count(*), sum(matches > 0), sum(matches) FROM found GROUP BY pattern ORDER BY 4 DESC"
        ).fetchall()
    console.print(f"\n[bold]{rows:,} rows in SQLite[/], {database}, table found:")
    for pattern, files, hits, total in found:
        console.print(f"  {pattern:28}{total:6,} lines in {hits:,} of {files:,} files", markup=False)
    return int(rows)


def reason(message: Message) -> str:
    """The reason of a dead letter, from its headers."""
    headers = dict(cast("list[tuple[str, bytes]]", message.headers()))
    if task := headers.get("drakkar.task"):
        return str(json.loads(task)["stderr"]).strip()
    return headers["__connect.errors.exception.message"].decode().partition(" [type=")[0]


def committed(brokers: str, config: DrakkarConfig) -> dict[int, int]:
    """The group's offsets as the broker reports them."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": config.kafka.consumer_group, "log_level": 0})
    try:
        partitions = [KafkaPartition(config.kafka.source_topic, number) for number in range(PARTITIONS)]
        return {each.partition: max(each.offset, 0) for each in consumer.committed(partitions, timeout=10)}
    finally:
        consumer.close()


def tell(what: str, text: str) -> None:
    """Print a line of facts."""
    console.print(f"  [cyan]{what:11}[/]{text}")


def base_name(path: str) -> str:
    """A path without the directory of Python's library."""
    return path.removeprefix(f"{LIBRARY}/")


if __name__ == "__main__":
    raise SystemExit(main())
