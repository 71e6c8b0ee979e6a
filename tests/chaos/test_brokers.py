"""R3: brokers are killed, restarted and stand still; the flow goes on where the others can, and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.drill import Drill, amount
from chaos.group_drill import GroupDrill, advance
from scripts.services import KafkaCluster
from support.kafka_io import MakeCluster, in_sync, leader_of
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(7200), pytest.mark.xdist_group("brokers")]

Results = list[tuple[object, ...]]

_NODES = (1, 2, 3)
_RATE = 100.0


class Brokers:
    """Three brokers with a topic of three copies, of which two must be in sync."""

    def __init__(self, cluster: KafkaCluster, scene: Scene) -> None:
        self._cluster = cluster
        self.scene = scene

    def roll(self) -> str:
        """Restart one after the other, as an upgrade does; records go on meanwhile."""
        for node in _NODES:
            self._cluster.stop_broker(node)
            advance(self.scene)
            self._cluster.start_broker(node)
            self._until_in_sync()
        return "3 restarts"

    def kill_leader(self) -> str:
        """SIGKILL of the leader of a partition; another one takes over."""
        node = leader_of(self.scene.bootstrap, self.scene.source, 0)
        self._cluster.kill_broker(node)
        advance(self.scene)
        self._cluster.start_broker(node)
        self._until_in_sync()
        return "1 SIGKILL of a leader"

    def freeze_leader(self) -> str:
        """SIGSTOP of a leader beyond the brokers' own session, then it goes on as if nothing had been."""
        node = leader_of(self.scene.bootstrap, self.scene.source, 1)
        self._cluster.freeze_broker(node)
        try:
            time.sleep(amount("FREEZE_S", 5))
            until(lambda: leader_of(self.scene.bootstrap, self.scene.source, 1) != node, 120, "another leader")
            advance(self.scene)
        finally:
            self._cluster.thaw_broker(node)
        self._until_in_sync()
        return "1 SIGSTOP of a leader"

    def faults(self) -> list[Callable[[], str]]:
        """What happens, in turn."""
        return [self.roll, self.kill_leader, self.freeze_leader]

    def _until_in_sync(self) -> None:
        until(lambda: in_sync(self.scene.bootstrap, len(_NODES)), 180, "all copies to be in sync", poll_s=0.2)
        advance(self.scene)


@pytest.fixture
def brokers(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[Brokers]:
    """A cluster of three, and a scene on it."""
    cluster = make_cluster(3, {"min.insync.replicas": "2"})
    scene = Scene(cluster.bootstrap, tmp_path)
    yield Brokers(cluster, scene)
    scene.close()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)], ids=["fixed", "cluster"])
def test_r3_three_brokers_in_trouble_change_nothing_of_a_store(
    brokers: Brokers, results: Results, processes: int
) -> None:
    """No process ends, state is exact, and nothing repeats but what a clean stop would not."""
    drill = Drill(brokers.scene)
    with drill.feeding(_RATE):
        workers = drill.start(processes)
        advance(brokers.scene)
        said = []
        for fault in brokers.faults() * amount("RESTARTS", 1):
            said.append(fault())
            drill.check()
        assert [worker.exit_code for worker in workers] == [None] * processes
    drill.finish(workers)
    name = "fixed mode" if processes == 1 else f"cluster of {processes}"
    results.append(drill.finished(f"R3 {name}, 3 brokers", _summed(said)))


def test_r3_the_only_broker_that_is_killed_changes_nothing_of_a_store(
    make_cluster: MakeCluster, tmp_path: Path, results: Results
) -> None:
    """The flow waits, goes on where it was, and repeats nothing."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    try:
        drill = Drill(scene)
        (worker,) = drill.start()
        kills = amount("RESTARTS", 1)
        share = amount("RECORDS", 3_000) // (kills + 1)
        for _ in range(kills):
            before = sum(scene.committed().values())
            drill.write(share)
            until(lambda before=before: sum(scene.committed().values()) > before, 120, "it committed")  # type: ignore[misc]  # mypy knows no lambda with a default here
            cluster.kill_broker(1)
            worker.until(lambda: worker.metric("drakkar_broker_up") == 0, "it noticed", 120)
            cluster.start_broker(1)
            scene.broker_restarted()
            worker.until(lambda: worker.metric("drakkar_broker_up") == 1, "it was connected", 120)
        drill.write(share)
        drill.finish([worker])
        row = drill.finished("R3 fixed mode", f"{kills} SIGKILL of the only broker")
        assert drill.repeated == 0
        results.append(row)
    finally:
        scene.close()


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_r3_three_brokers_in_trouble_lose_nothing_of_a_group(brokers: Brokers, results: Results, protocol: str) -> None:
    """Two members go on; what repeats was in flight at a rebalance."""
    drill = GroupDrill(brokers.scene)
    with drill.feeding(_RATE):
        workers = [drill.start(group_protocol=protocol) for _ in range(2)]
        drill.advance()
        said = [fault() for fault in brokers.faults() * amount("RESTARTS", 1)]
        assert [worker.exit_code for worker in workers] == [None, None]
    drill.finish(workers)
    results.append(drill.finished(f"R3 group of 2, {protocol}, 3 brokers", _summed(said), connections_broke=True))


def _summed(said: list[str]) -> str:
    counts: dict[str, int] = {}
    for each in said:
        number, _, what = each.partition(" ")
        counts[what] = counts.get(what, 0) + int(number)
    return ", ".join(f"{count} {what}" for what, count in counts.items())
