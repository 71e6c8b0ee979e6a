"""R4: a storm of rebalances. Members join and leave every 3 s, cleanly, by a kill, or by standing still."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from chaos.drill import amount
from chaos.group_drill import IN_FLIGHT, GroupDrill
from support.scene import Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(7200)]

Results = list[tuple[object, ...]]

_EVERY_S = 3.0
_SESSION_S = 6.0  # of a scene's groups
_LONG = pytest.mark.long
MAKERS: dict[str, Callable[[Scene], GroupDrill]] = {"no state": GroupDrill}
"""The flows under test: add a drill with `check_state` for one with state."""


def _settings(flavour: str, place: int) -> dict[str, Any]:
    """Settings of the member at a place: a static one returns under its name."""
    static = {"group_instance_id": f"member-{place}"} if flavour == "static" else {}
    return {"group_protocol": "consumer" if flavour == "consumer" else "classic", **static}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "flavour", ["classic", pytest.param("consumer", marks=_LONG), pytest.param("static", marks=_LONG)]
)
def test_r4_members_that_come_and_go_lose_nothing(
    scene: Scene, chance: random.Random, results: Results, flavour: str, make: Callable[[Scene], GroupDrill]
) -> None:
    """Every partition advances, no member commits a partition that it has lost, and repeats are bounded."""
    drill = make(scene)
    rounds = amount("REBALANCES", 2)
    kills = 0
    with drill.feeding():
        first = drill.start(**_settings(flavour, 0))
        drill.advance()
        for _ in range(rounds):
            guests = [drill.start(**_settings(flavour, place)) for place in (1, 2)]
            for guest in guests:
                guest.until_running()
                time.sleep(_EVERY_S)  # the storm's beat: it need not have joined
                if chance.random() < 0.5:
                    guest.kill()
                    kills += 1
                else:
                    assert guest.terminate(timeout_s=120) == 0, guest.stderr
            drill.advance()
    drill.finish([first])
    faults = f"{2 * rounds} members join and leave every {_EVERY_S:g} s, {kills} by SIGKILL"
    row = drill.finished(f"R4 group, {flavour}", faults)
    assert drill.duplicates <= kills * IN_FLIGHT
    results.append(row)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "flavour", [pytest.param("classic", marks=_LONG), "consumer", pytest.param("static", marks=_LONG)]
)
def test_r4_a_member_that_stands_still_beyond_its_session_commits_nothing_more(
    scene: Scene, results: Results, flavour: str, make: Callable[[Scene], GroupDrill]
) -> None:
    """Others take its partitions over meanwhile; back again it joins anew, or it is replaced."""
    drill = make(scene)
    rounds = amount("REBALANCES", 1)
    places = itertools.cycle((0, 1))
    with drill.feeding():
        workers = [drill.start(**_settings(flavour, place)) for place in (0, 1)]
        for worker in workers:
            _until_it_reads(worker)
        for _ in range(rounds):
            frozen = workers[next(places)]
            frozen.send(signal.SIGSTOP)
            time.sleep(_SESSION_S)
            drill.advance()
            frozen.send(signal.SIGCONT)
            _until_it_reads(frozen, _read(frozen))
    drill.finish(workers)
    row = drill.finished(f"R4 group, {flavour}, SIGSTOP", f"{rounds} SIGSTOP beyond the session's end")
    assert drill.duplicates <= rounds * IN_FLIGHT
    results.append(row)


def _read(worker: Worker) -> float:
    return worker.metric("drakkar_messages_consumed_total") or 0.0


def _until_it_reads(worker: Worker, more_than: float = 0.0) -> None:
    worker.until(lambda: _read(worker) > more_than, "it read records", 180)
