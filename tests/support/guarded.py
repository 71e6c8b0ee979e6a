"""A worker that is nothing but an executor: `python guarded.py MODE SCRIPT...` runs shell scripts until it is ended.

MODE is `oneshot`, a task for each script, or `persistent`, a long-lived child of the only script; `forking` is
`oneshot` with a fork of the worker that lives on. SIGTERM closes the executor and ends the worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus


async def main(mode: str, scripts: list[str]) -> None:
    """Start, wait, close."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    if mode == "forking" and os.fork() == 0:
        signal.pause()
    executor = await _persistent(scripts) if mode == "persistent" else await _oneshot(scripts)
    await told.wait()
    await executor.close()


async def _oneshot(scripts: list[str]) -> OneshotExecutor:
    executor = OneshotExecutor(ExecutorConfig(binary_path="/bin/sh", env_inherit_deny=[]), Bus())
    await executor.start()
    for script in scripts:
        executor.submit(ExecutorTask(task_id=script, source_offsets=[0], args=["-c", script]), 0, lambda outcome: None)
    return executor


async def _persistent(scripts: list[str]) -> PersistentExecutor:
    persistent = {"protocol": "lines", "args": ["-c", *scripts], "children": 1, "close_grace_s": 0.1}
    executor = PersistentExecutor(ExecutorConfig(binary_path="/bin/sh", persistent=persistent), Bus())
    await executor.start()
    return executor


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
