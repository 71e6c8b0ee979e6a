"""State in group mode under kills, stops and rebalances: nothing is lost, and each record counts once."""

from __future__ import annotations

import random
import time

import pytest

from chaos.drill import amount
from chaos.state_drill import StateDrill
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

Results = list[tuple[object, ...]]

_PROTOCOLS: dict[str, dict[str, str]] = {
    "classic": {},
    "consumer": {"group_protocol": "consumer"},
    "static": {"group_instance_id": "member-{}"},
}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_r1_killed_members_lose_nothing_and_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """One of two members is killed at any moment and replaced; what a position calls finished is never repeated."""
    kills = amount("KILLS", 4)
    share = amount("RECORDS", 3_000) // (kills + 1)
    drill = StateDrill(scene, members=_PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    for _ in range(kills):
        before = sum(scene.committed().values())
        drill.write(share)
        drill.kill_one(members, chance, before)
        members.append(drill.join())
    drill.write(share)
    drill.finish(members)
    results.append(drill.finished(f"R1 group with state, {protocol}", f"{drill.kills} SIGKILL of one of two members"))


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_r2_stopped_members_repeat_nothing(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """A member that is stopped hands its partitions on with all that it has finished."""
    stops = amount("STOPS", 2)
    share = amount("RECORDS", 3_000) // (stops + 1)
    drill = StateDrill(scene, share, _PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    for _ in range(stops):
        drill.write(share)
        time.sleep(chance.uniform(0.2, 3.0))
        stopped = members.pop(chance.randrange(2))
        drill.leave(stopped)
        members.append(drill.join())
    drill.finish(members)
    assert scene.check_delivered(drill.records) == 0
    results.append(drill.finished(f"R2 group with state, {protocol}", f"{stops} SIGTERM of one of two members"))


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_r4_members_that_join_leave_die_and_hang_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """Two or three members at random, under load; one that hangs beyond its session must not commit any more."""
    drill = StateDrill(scene, amount("RECORDS", 2_000), _PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    rounds = amount("REBALANCES", 4)
    for _ in range(rounds):
        drill.write(500)
        time.sleep(chance.uniform(0.2, 3.0))
        chosen = chance.choice(members)
        match chance.choice(["join", "stop", "kill", "suspend"]):
            case "join" if len(members) < 3:
                members.append(drill.join())
            case "stop":
                drill.leave(chosen)
                members.remove(chosen)
            case "kill":
                chosen.kill()
                members.remove(chosen)
            case _:
                drill.suspend(chosen, chance.uniform(7.0, 14.0))
        while len(members) < 2:
            members.append(drill.join())
        drill.check()
    drill.finish(members)
    results.append(
        drill.finished(f"R4 group with state, {protocol}", f"{rounds} joins, stops, kills or hangs of members")
    )
