"""How many programs a second the one-shot executor runs, beside a threaded C loop doing the same.

Both run `cat` with 100 bytes on stdin and three pipes. The two take turns, so that other load on
the machine meets both; the medians of the rounds are printed as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.base import run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus

ROUNDS = 3
SLOTS = (2, 4, 8)
OUTSTANDING = 64
DATA = "x" * 100


class Speed(NamedTuple):
    """Programs a second, and the parent's CPU milliseconds for each."""

    per_s: float
    cpu_ms_per_task: float


def compile_c_loop(folder: str) -> str:
    """Compile the yardstick and return its path."""
    program = f"{folder}/spawn_loop"
    source = Path(__file__).with_name("spawn_loop.c")
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, source], check=True)
    return program


def run_c_loop(program: str, threads: int, seconds: float, cat: str) -> Speed:
    """Measure the yardstick."""
    output = subprocess.run([program, str(threads), str(seconds), cat], check=True, capture_output=True).stdout
    return Speed(**json.loads(output))


def run_executor(slots: int, seconds: float, cat: str) -> Speed:
    """Measure the executor, kept busy by more calls than it has slots."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(slots, seconds, cat))


async def _drive(slots: int, seconds: float, cat: str) -> Speed:
    executor = OneshotExecutor(ExecutorConfig(binary_path=cat, max_executors=slots), Bus())
    await executor.start()
    done = 0
    start, cpu = time.monotonic(), _cpu_s()

    async def call_over_and_over() -> None:
        nonlocal done
        while time.monotonic() < start + seconds:
            outcome = await run(executor, ExecutorTask(task_id="t", source_offsets=[0], stdin=DATA))
            assert isinstance(outcome, ExecutorResult)
            assert outcome.stdout == DATA
            done += 1

    await asyncio.gather(*(call_over_and_over() for _ in range(OUTSTANDING)))
    took, used = time.monotonic() - start, _cpu_s() - cpu
    await executor.close()
    return Speed(done / took, used * 1000 / done)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def c_loop_per_s(seconds: float = 1.0) -> float:
    """The yardstick alone: the best of 2, 4 and 8 threads."""
    cat = shutil.which("cat") or "/bin/cat"
    with tempfile.TemporaryDirectory() as folder:
        program = compile_c_loop(folder)
        return max(run_c_loop(program, threads, seconds, cat).per_s for threads in SLOTS)


def measure(seconds: float = 0.5) -> dict[str, object]:
    """Run all rounds of `seconds` each and sum them up; every number is the median of the rounds."""
    cat = shutil.which("cat") or "/bin/cat"
    with tempfile.TemporaryDirectory() as folder:
        program = compile_c_loop(folder)
        rounds = [
            [(run_c_loop(program, n, seconds, cat), run_executor(n, seconds, cat)) for n in SLOTS]
            for _ in range(ROUNDS)
        ]
    c_best = [max(c for c, _ in speeds) for speeds in rounds]
    ours_best = [max(ours for _, ours in speeds) for speeds in rounds]
    return {
        "c_loop_per_s": round(median(c.per_s for c in c_best)),
        "executor_per_s": round(median(ours.per_s for ours in ours_best)),
        "ratio": round(median(ours.per_s / c.per_s for c, ours in zip(c_best, ours_best, strict=True)), 3),
        "cpu_ms_per_task": round(median(ours.cpu_ms_per_task for ours in ours_best), 4),
        "c_loop_cpu_ms_per_task": round(median(c.cpu_ms_per_task for c in c_best), 4),
        "executor_per_s_by_slots": {
            n: round(median(speeds[i][1].per_s for speeds in rounds)) for i, n in enumerate(SLOTS)
        },
    }
