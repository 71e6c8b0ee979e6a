"""R3: brokers are killed, restarted and stand still; the flow goes on where the others can, and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.drill import Drill, amount
from chaos.group_drill import GroupDrill, advance
from chaos.state_drill import StateDrill
from scripts.services import KafkaCluster
from support.kafka_io import MakeCluster, in_sync, leader_of
from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(7200), pytest.mark.xdist_group("brokers")]

Results = list[tuple[object, ...]]

_NODES = (1, 2, 3)
_RATE = 100.0
_LONG = pytest.mark.long


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


class OnlyBroker:
    """A broker that no other one stands in for."""

    def __init__(self, cluster: KafkaCluster, scene: Scene) -> None:
        self._cluster = cluster
        self.scene = scene

    def kill(self, workers: list[Worker]) -> None:
        """SIGKILL, and a new start when all workers have noticed; return when all are connected."""
        self._cluster.kill_broker(1)
        for worker in workers:
            worker.until(lambda worker=worker: worker.metric("drakkar_broker_up") == 0, "it noticed", 120)  # type: ignore[misc]  # mypy knows no lambda with a default here
        self._cluster.start_broker(1)
        self.scene.broker_restarted()
        for worker in workers:
            worker.until(lambda worker=worker: worker.metric("drakkar_broker_up") == 1, "it was connected", 120)  # type: ignore[misc]  # as above


@pytest.fixture
def only_broker(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[OnlyBroker]:
    """A cluster of one, and a scene on it."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    yield OnlyBroker(cluster, scene)
    scene.close()


@pytest.fixture
def brokers(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[Brokers]:
    """A cluster of three, and a scene on it."""
    cluster = make_cluster(3, {"min.insync.replicas": "2"})
    scene = Scene(cluster.bootstrap, tmp_path)
    yield Brokers(cluster, scene)
    scene.close()


MODES = pytest.mark.parametrize(
    "mode",
    ["fixed mode", pytest.param("cluster of 2", marks=_LONG), pytest.param("group with state", marks=_LONG)],
)


def begin(scene: Scene, mode: str) -> tuple[Drill, list[Worker]]:
    """A flow that counts, with its processes."""
    if mode == "group with state":
        group = StateDrill(scene)
        return group, [group.join(), group.join()]
    drill = Drill(scene)
    return drill, drill.start(1 if mode == "fixed mode" else 2)


@MODES
def test_r3_three_brokers_in_trouble_change_nothing_of_state(brokers: Brokers, results: Results, mode: str) -> None:
    """No process ends, and state is exact; what repeats is a delivery whose answer was lost."""
    drill, workers = begin(brokers.scene, mode)
    with drill.feeding(_RATE):
        advance(brokers.scene)
        said = []
        for fault in brokers.faults() * amount("RESTARTS", 1):
            said.append(fault())
            drill.check()
        assert [worker.exit_code for worker in workers] == [None] * len(workers)
    drill.finish(workers)
    results.append(drill.finished(f"R3 {mode}, 3 brokers", _summed(said)))


@MODES
def test_r3_the_only_broker_that_is_killed_changes_nothing_of_state(
    only_broker: OnlyBroker, results: Results, mode: str
) -> None:
    """The flow waits, goes on where it was, and repeats nothing; only members of a group may be rebalanced."""
    scene = only_broker.scene
    drill, workers = begin(scene, mode)
    kills = amount("RESTARTS", 1)
    share = amount("RECORDS", 3_000) // (kills + 1)
    for _ in range(kills):
        before = sum(scene.committed().values())
        drill.write(share)
        until(lambda before=before: sum(scene.committed().values()) > before, 120, "it committed")  # type: ignore[misc]  # mypy knows no lambda with a default here
        only_broker.kill(workers)
    drill.write(share)
    drill.finish(workers)
    assert mode == "group with state" or drill.repeated == 0
    results.append(drill.finished(f"R3 {mode}", f"{kills} SIGKILL of the only broker"))


@pytest.mark.long
def test_r3_the_only_broker_that_is_killed_loses_nothing_of_a_group(only_broker: OnlyBroker, results: Results) -> None:
    """Two members go on when it is back; what repeats was in flight."""
    drill = GroupDrill(only_broker.scene)
    kills = amount("RESTARTS", 1)
    with drill.feeding(_RATE) as feeder:
        workers = [drill.start() for _ in range(2)]
        drill.advance()
        for _ in range(kills):
            only_broker.kill(workers)
            feeder.broker_restarted()
            drill.advance()
    drill.finish(workers)
    faults = f"{kills} SIGKILL of the only broker"
    results.append(drill.finished("R3 group of 2", faults, connections_broke=True))


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
