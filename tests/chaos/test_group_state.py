"""State in group mode under kills, stops and rebalances: nothing is lost, and each record counts once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from chaos.drill import amount
from chaos.state_drill import StateDrill
from support.kafka_io import MakeCluster
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

Results = list[tuple[object, ...]]

_PROTOCOLS = {
    "classic": {},
    "consumer": {"group_protocol": "consumer"},
    "static": {"group_instance_id": "member-{}"},
}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_r1_killed_members_lose_nothing_and_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """One of two members is killed at any moment and replaced; what a position calls finished is never repeated."""
    drill = StateDrill(scene, amount("RECORDS", 3_000), **_PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    kills = amount("KILLS", 4)
    for _ in range(kills):
        time.sleep(chance.uniform(0.2, 4.0))
        killed = members.pop(chance.randrange(2))
        killed.kill()
        drill.check()
        members.append(drill.join())
    drill.finish_members(members)
    results.append(drill.finished(f"R1 group mode, {protocol}", f"{kills} SIGKILL of one of two members"))


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_r2_stopped_members_repeat_nothing(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """A member that is stopped hands its partitions on with all that it has finished."""
    drill = StateDrill(scene, amount("RECORDS", 3_000), **_PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    stops = amount("STOPS", 2)
    for _ in range(stops):
        time.sleep(chance.uniform(0.5, 4.0))
        stopped = members.pop(chance.randrange(2))
        drill.leave(stopped)
        members.append(drill.join())
    drill.finish_members(members)
    assert scene.check_delivered(drill.records) == 0
    results.append(drill.finished(f"R2 group mode, {protocol}", f"{stops} SIGTERM of one of two members"))


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_r4_members_that_join_leave_die_and_hang_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results, protocol: str
) -> None:
    """Two or three members at random, under load; one that hangs beyond its session must not commit any more."""
    drill = StateDrill(scene, amount("RECORDS", 2_000), **_PROTOCOLS[protocol])
    members = [drill.join(), drill.join()]
    rounds = amount("ROUNDS", 4)
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
    drill.finish_members(members)
    results.append(drill.finished(f"R4 group mode, {protocol}", f"{rounds} joins, stops, kills or hangs of members"))


@pytest.mark.slow
def test_r3_a_broker_that_is_killed_and_restarted_changes_nothing(
    make_cluster: MakeCluster, tmp_path: Path, results: Results
) -> None:
    """Transactions that were open are decided, and nothing is counted twice."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    try:
        drill = StateDrill(scene, amount("RECORDS", 3_000))
        members = [drill.join(), drill.join()]
        restarts = amount("RESTARTS", 2)
        for _ in range(restarts):
            before = sum(scene.committed().values())
            members[0].until(lambda before=before: sum(scene.committed().values()) > before, "commits")  # type: ignore[misc]  # mypy knows no lambda with a default here
            cluster.kill_broker(1)
            for member in members:
                member.until(lambda member=member: member.metric("drakkar_broker_up") == 0, "it noticed", timeout_s=60)  # type: ignore[misc]  # as above
            cluster.start_broker(1)
            scene.broker_restarted()
            for member in members:
                member.until(lambda member=member: member.metric("drakkar_broker_up") == 1, "it is back", timeout_s=60)  # type: ignore[misc]  # as above
        drill.finish_members(members)
        results.append(drill.finished("R3 group mode", f"{restarts} SIGKILL of the only broker"))
    finally:
        scene.close()
