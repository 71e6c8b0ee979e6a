"""The failures in the middle of a run: a worker is killed, the broker restarts, a database is unavailable."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from examples.integration.targets import Servers, Targets
from examples.integration.workers import Workers
from scripts.servers.process import wait_until

__all__ = ["Disturbance", "plan"]

AWAY_S = 10.0


@dataclass(frozen=True)
class Disturbance:
    """One failure: it happens when `share` of the results are written."""

    share: float
    name: str
    cause: Callable[[], str]
    """Cause the failure, wait until it is over, and return its description."""


def plan(chance: random.Random, targets: Targets, workers: Workers) -> list[Disturbance]:
    """The failures of a run, in order; the moments and the database are chosen at random."""
    shares = [chance.uniform(low, high) for low, high in ((0.15, 0.25), (0.35, 0.5), (0.6, 0.75))]
    database = chance.choice([_stop_postgres, _freeze("mongo"), _freeze("redis")])
    kill = Disturbance(shares[0], "worker killed", lambda: _kill(workers))
    if (servers := targets.servers) is None:  # only servers that this run started may be broken
        return [kill]
    return [
        kill,
        Disturbance(shares[1], "broker restarted", lambda: _restart(servers)),
        Disturbance(shares[2], "database away", lambda: database(servers)),
    ]


def _kill(workers: Workers) -> str:
    killed = workers.kill()
    return f"{killed} killed, {workers.start()} started"


def _restart(servers: Servers) -> str:
    started = time.monotonic()
    servers.kafka.stop_broker(1)
    servers.kafka.start_broker(1)
    return f"away for {time.monotonic() - started:.1f} s"


def _stop_postgres(servers: Servers) -> str:
    server, process = servers.postgres, servers.postgres.process
    assert process is not None
    process.send(signal.SIGINT)  # PostgreSQL's fast shutdown
    wait_until(lambda: not process.alive(), 30, "PostgreSQL to stop")
    time.sleep(AWAY_S)
    server.resume(server.command())
    return f"postgres stopped for {AWAY_S:g} s"


def _freeze(name: str) -> Callable[[Servers], str]:
    def freeze(servers: Servers) -> str:
        process = getattr(servers, name).process
        process.send(signal.SIGSTOP)
        time.sleep(AWAY_S)
        process.send(signal.SIGCONT)
        return f"{name} frozen for {AWAY_S:g} s"

    return freeze
