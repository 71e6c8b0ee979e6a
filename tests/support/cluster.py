"""The processes of one cluster, as users have them: workers with the same addresses and store."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from support.scene import Scene
from support.worker import Worker

__all__ = ["addresses", "start_cluster", "until_all_run"]


def addresses(count: int) -> list[str]:
    """Free addresses of this host."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    return [f"127.0.0.1:{port}" for port in ports]


def start_cluster(
    scene: Scene,
    pipeline: str,
    count: int,
    runtime: Mapping[str, Any] | None = None,
    *,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    **cluster: Any,
) -> list[Worker]:
    """Start the processes of a cluster on this host; one process is none. `sections` are the other settings."""
    places = addresses(count)
    shared = {"recovery": {"dir": str(scene.directory / "store"), "snapshot_interval_s": 0.2}, **(runtime or {})}
    workers = []
    for process in range(count):
        if count > 1:
            shared["cluster"] = {"addresses": places, "process_id": process, **cluster}
        workers.append(scene.start(pipeline, {**(sections or {}), "runtime": shared}))
    return workers


def until_all_run(workers: list[Worker]) -> None:
    """Wait until each of them reads."""
    for worker in workers:
        worker.until_running()
