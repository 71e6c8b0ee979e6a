"""`make scenario`: runs the whole job under failures, then audits the targets; exit code 1 unless the books balance."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.integration.audit import Account, dead_letters, results
from examples.integration.disturb import Disturbance, plan
from examples.integration.feed import Watch, send
from examples.integration.targets import Targets, external_targets, own_targets, prepare
from examples.integration.workers import Workers
from examples.integration.workload import Workload

WORKERS = 3
REPEATED_AT_MOST = 300
"""Records that one worker may repeat after one failure: those in flight and those not yet committed."""

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run once; 0 when the books balance, 1 when they do not or the run fails, 2 for a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m examples.integration", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="how many messages (default 10000, at least 1000)")
    parser.add_argument("--seed", type=int, default=None, help="chooses messages and failures; default: a new one")
    parser.add_argument("--output", type=Path, default=Path("scenario-output"), help="logs, files and server data")
    parser.add_argument("--timeout-s", type=float, default=900.0, help="how long the work may take (default 900)")
    parser.add_argument("--external", action="store_true", help="use the servers of compose.yaml; break only workers")
    options = parser.parse_args()
    if options.messages < 1000:
        parser.error(f"--messages {options.messages}: at least 1000, so that the failures hit a run at work")
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    output = options.output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    (output / "markers").mkdir(parents=True)
    console.print(f"[bold]integration scenario[/]: {options.messages:,} messages, {WORKERS} workers, seed {seed}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # SIGTERM also ends servers and workers
    workload = Workload.make(seed, options.messages, output / "markers")
    with (external_targets if options.external else own_targets)(output) as targets:
        try:
            return run(targets, workload, random.Random(seed), options.timeout_s)
        except RuntimeError as error:
            console.print(f"scenario: {error}", style="red")
            return 1


def run(targets: Targets, workload: Workload, chance: random.Random, timeout_s: float) -> int:
    """Send the messages, let the workers work under failures, audit the targets."""
    asyncio.run(prepare(targets))
    places = send(targets.brokers, "searches", workload.messages)
    with Workers(targets.environment, targets.output) as workers:
        started = time.monotonic()
        for _ in range(WORKERS):
            workers.start()
        problems = list(work(targets, workers, workload, plan(chance, targets, workers), timeout_s))
        took_s = time.monotonic() - started
        problems += [f"{name} ended with exit code {code}" for name, code in workers.stop().items() if code]
    console.print(f"all committed after {took_s:.0f} s\n")
    accounts = audit(targets, workload, places)
    problems += [f"{each.target}: does not add up" for each in accounts if not each.balanced]
    bound = REPEATED_AT_MOST * (1 + 2 * WORKERS)
    problems += [
        f"{each.target}: {each.doubled} doubled, more than {bound}" for each in accounts if each.doubled > bound
    ]
    failed_once = {int(path.name) for path in (targets.output / "markers").iterdir()}
    if failed_once != workload.flaky:
        problems.append(f"{len(failed_once)} searches failed once and were retried, {len(workload.flaky)} expected")
    console.print(table(accounts))
    console.print(f"{len(failed_once)} searches failed once and were retried")
    for problem in problems:
        console.print(f"PROBLEM {problem}", style="red")
    console.print("The books do not balance." if problems else "The books balance: nothing lost, nothing unexplained.")
    return 1 if problems else 0


def work(
    targets: Targets, workers: Workers, workload: Workload, disturbances: list[Disturbance], timeout_s: float
) -> Iterator[str]:
    """Wait until every offset is committed, with the failures on the way; yields each problem."""
    total = len(workload.expected.matches["kafka"])
    deadline = time.monotonic() + timeout_s
    with closing(Watch(targets.brokers, "searchers")) as watch:
        for each in disturbances:
            while (watch.size("found") or 0) < each.share * total:
                if problem := _stuck(workers, deadline):
                    yield problem
                    return
                time.sleep(0.1)
            console.print(f"{watch.size('found'):6,} results: {each.name}: {each.cause()}")
        while not committed(watch):
            if problem := _stuck(workers, deadline):
                yield f"{problem}; not all offsets are committed: {uncommitted(watch)}"
                return
            time.sleep(0.2)


def committed(watch: Watch) -> bool:
    """True if the group has committed the end of every partition."""
    return uncommitted(watch) == {}


def uncommitted(watch: Watch) -> dict[int, str] | None:
    """Committed offset and end of each partition where they differ; None while the broker does not answer."""
    ends = watch.ends("searches")
    found = None if ends is None else watch.committed("searches", ends)
    if ends is None or found is None:
        return None
    return {partition: f"{found[partition]} of {end}" for partition, end in ends.items() if found[partition] != end}


def audit(targets: Targets, workload: Workload, places: Mapping[tuple[int, int], int]) -> list[Account]:
    """One account per target and per reason of dead letters."""
    expected = workload.expected
    seen = asyncio.run(results(targets))
    accounts = [Account.of(name, expected.matches[name], seen[name]) for name in expected.matches]
    letters = dead_letters(targets.brokers, "searches-failed", places)
    accounts += [
        Account.of(f"dlq {reason}", dict.fromkeys(expected.dead.get(reason, ()), 0), entries)
        for reason, entries in letters.items()
    ]
    return accounts


def table(accounts: list[Account]) -> Table:
    """The accounts for a terminal."""
    columns = ("target", "expected", "written", "doubled", "missing", "unexpected", "wrong")
    shown = Table(*columns, box=None, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for each in accounts:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in vars(each).values()))
    return shown


def _stuck(workers: Workers, deadline: float) -> str:
    if ended := workers.ended():
        return f"workers ended early: {ended}"
    return "not done in time (--timeout-s)" if time.monotonic() > deadline else ""


if __name__ == "__main__":
    sys.exit(main())
