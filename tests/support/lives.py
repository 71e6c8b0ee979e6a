"""Random lives of a flow in the testing kit: messages, time, crashes, stops, rebalances, held commits."""

from __future__ import annotations

import random
from collections.abc import Callable

from drakkar_flow.testing import FlowHarness

__all__ = ["disturb"]


def disturb(
    kit: FlowHarness, chance: random.Random, partitions: int, send: Callable[[], object], *, moves: bool = True
) -> None:
    """One step of a life; `send` writes a message. Without `moves` the partitions stay, as in fixed mode."""
    partition = chance.randrange(partitions)
    action = chance.random()
    if action < 0.5:
        for _ in range(chance.randrange(8)):
            send()
    elif action < 0.6:
        kit.clock.advance(chance.choice((0.05, 1, 5)))
    elif action < 0.7:
        kit.crash()
        kit.restart(hold_commits=chance.random() < 0.3)
    elif action < 0.75:
        kit.restart()
    elif not moves:
        kit.let_commits_go()
    elif action < 0.85:
        kit.revoke(partition, drain_s=chance.choice((0, 0.05, 1)))
        kit.assign(partition)
    elif action < 0.95:
        kit.lose(partition)
        kit.assign(partition)
    else:
        kit.let_commits_go()
