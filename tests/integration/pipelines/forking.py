"""A hook makes processes in the way that the variable FORKING names, and tells how they did."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from drakkar_flow import Handler, KafkaPayload

POOLS = 30


def square(number: int) -> int:
    """Something that another process computes."""
    return number * number


def _pools(kind: str, count: int) -> str:
    for _ in range(count):
        with multiprocessing.get_context(kind).Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
            pool.close()
            pool.join()
    return "done"


def terminated_pools() -> str:
    """Pools that are ended by SIGTERM while they are busy."""
    for _ in range(POOLS):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.apply_async(time.sleep, (60,))
            assert pool.map(square, range(4), chunksize=4) == [0, 1, 4, 9]
    return "done"


def executor(kind: str = "fork") -> str:
    """A pool of concurrent.futures."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind)) as pool:
        return "done" if list(pool.map(square, range(4))) == [0, 1, 4, 9] else "wrong"


def preexec() -> str:
    """A program with a function between fork and exec."""
    command = [sys.executable, "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"]
    for _ in range(5):
        subprocess.run(command, check=True, capture_output=True, preexec_fn=os.getpgrp)
    return "done"


def returning() -> str:
    """A child that comes back from the hook, as nobody should let it."""
    if os.fork() == 0:
        return "from the child"
    return _reaped()


def exiting() -> str:
    """A child that ends by sys.exit."""
    if os.fork() == 0:
        sys.exit(7)
    return _reaped(7)


def _reaped(wanted: int | None = None) -> str:
    _, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    return "done" if wanted in (None, code) else f"ended with {code}"


def looking() -> str:
    """What a forked child has: its handlers and its sockets that listen."""
    return multiprocessing.get_context("fork").Pool(1).apply(_look)


def _look() -> str:
    import signal

    ours = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    listening = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    mine = [link for entry in Path("/proc/self/fd").iterdir() if (link := _link(entry)).startswith("socket:")]
    inherited = [number for number in listening if f"socket:[{number}]" in mine]
    is_clean = ours == [signal.SIG_DFL, signal.default_int_handler] and not inherited
    return "done" if is_clean else f"{ours} {inherited}"


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


WAYS: dict[str, Callable[[], str]] = {
    "fork": lambda: _pools("fork", POOLS),
    "spawn": lambda: _pools("spawn", 2),
    "forkserver": lambda: _pools("forkserver", 2),
    "terminated": terminated_pools,
    "executor": executor,
    "executor_spawn": lambda: executor("spawn"),
    "preexec": preexec,
    "returning": returning,
    "exiting": exiting,
    "looking": looking,
}


class Forking(Handler[bytes, Any]):
    """Makes processes in `on_message_complete`-like places: in a hook itself, or offloaded."""

    async def arrange(self, messages: list[Any], _pending: object) -> list[Any]:
        """Nothing to run."""
        return []

    async def on_message_complete(self, group: Any) -> list[KafkaPayload]:
        """Do it, in the hook or on a thread of `offload`."""
        way, where = os.environ["FORKING"].split("@")
        if way == "busy":
            return [KafkaPayload(data=await busy(), key=b"k")]
        function = WAYS[way]
        answer = await self.offload(function) if where == "offload" else function()
        return [KafkaPayload(data=answer, key=b"k")]


async def busy() -> str:
    """Children that work for long: the test kills the worker."""
    kept.append(multiprocessing.get_context("fork").Pool(2))
    for _ in range(2):
        kept[0].apply_async(time.sleep, (1000,))
    await asyncio.sleep(1000)
    return "never"


kept: list[Any] = []
flow = Forking()
