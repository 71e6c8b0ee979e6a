"""The servers of a checkout: properties, the state file, what is reused and what is cleaned away."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import services as module
from scripts.servers.kafka import KafkaCluster, answers, server_properties
from scripts.servers.process import ServerError, ServerProcess
from scripts.servers.redis import Redis
from scripts.services import Services, main


class FakeCluster(KafkaCluster):
    """A cluster that starts no process: a broker is up when its node folder has a file of that name."""

    def start(self) -> None:
        """Put every node up."""
        for broker in self.brokers:
            broker.directory.mkdir(parents=True, exist_ok=True)
            self.start_broker(broker.node)

    def stop(self) -> None:
        """Put every node down."""
        for broker in self.brokers:
            self.kill_broker(broker.node)

    def start_broker(self, node: int) -> None:
        """Put one node up."""
        (self._broker(node).directory / "up").touch()

    def kill_broker(self, node: int) -> None:
        """Put one node down."""
        (self._broker(node).directory / "up").unlink(missing_ok=True)

    def healthy(self) -> bool:
        """Whether all nodes are up."""
        return all((broker.directory / "up").exists() for broker in self.brokers)


class FakeRedis(Redis):
    """A server that starts no process and is up once it was started."""

    def start(self) -> None:
        """Nothing to do."""

    def healthy(self) -> bool:
        """It always is."""
        return True


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The services of an empty checkout, with clusters that start no process."""
    monkeypatch.setattr(module, "KINDS", {"kafka": FakeCluster})
    return Services(tmp_path / ".services")


def roles(brokers: int) -> list[object]:
    """The roles of each node of a cluster."""
    cluster = KafkaCluster(Path("nowhere"), brokers)
    return [server_properties(broker, cluster.brokers)["process.roles"] for broker in cluster.brokers]


def test_one_broker_is_its_own_controller_and_keeps_one_copy() -> None:
    """A single node needs no other for any internal topic, and tells clients exactly where it listens."""
    (broker,) = (cluster := KafkaCluster(Path("/d"))).brokers
    properties = server_properties(broker, cluster.brokers)
    assert properties["controller.quorum.voters"] == f"1@127.0.0.1:{broker.controller_port}"
    assert (
        properties["listeners"]
        == f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.controller_port}"
    )
    assert properties["advertised.listeners"] == f"PLAINTEXT://{cluster.bootstrap}"
    assert properties["log.dirs"] == "/d/node-1/data"
    assert properties["auto.create.topics.enable"] == "false"
    assert {value for key, value in properties.items() if "replication.factor" in key} == {1}


def test_an_odd_number_of_nodes_votes() -> None:
    """Two brokers have one controller, three and four have three: an even quorum survives no more losses."""
    combined, plain = "broker,controller", "broker"
    assert roles(1) == [combined]
    assert roles(2) == [combined, plain]
    assert roles(3) == [combined] * 3
    assert roles(4) == [combined] * 3 + [plain]


def test_a_plain_broker_listens_to_clients_only() -> None:
    """A node without a vote opens no controller port, yet knows the voters."""
    cluster = KafkaCluster(Path("/d"), brokers=2)
    properties = server_properties(cluster.brokers[1], cluster.brokers)
    assert properties["listeners"] == f"PLAINTEXT://127.0.0.1:{cluster.brokers[1].port}"
    assert properties["controller.quorum.voters"] == f"1@127.0.0.1:{cluster.brokers[0].controller_port}"


def test_copies_are_three_at_most() -> None:
    """Internal topics have a copy on every node, up to three."""
    cluster = KafkaCluster(Path("/d"), brokers=5)
    assert server_properties(cluster.brokers[0], cluster.brokers)["offsets.topic.replication.factor"] == 3


def test_a_cluster_comes_back_from_its_state() -> None:
    """What restore makes of state has the same nodes, ports, folders and processes."""
    cluster = KafkaCluster(Path("/d"), brokers=2)
    cluster._replace(2, ServerProcess(pid=4_000_001, started=2))
    again = KafkaCluster.restore(cluster.state())
    assert again.brokers == cluster.brokers
    assert again.bootstrap == cluster.bootstrap


def test_a_cluster_whose_processes_are_gone_is_stopped_without_harm(tmp_path: Path) -> None:
    """State left behind by a crash or a reboot is cleaned; the pid in it now belongs to somebody else, who lives on."""
    other = ServerProcess.spawn(["sleep", "60"], tmp_path / "other.log")
    try:
        cluster = KafkaCluster(tmp_path)
        cluster._replace(1, replace(other, started=other.started - 1))
        assert not cluster.healthy()
        cluster.stop()
        assert cluster.brokers[0].process is None
        assert other.alive()
    finally:
        other.kill()


def test_a_broker_that_is_not_there_is_named() -> None:
    """Breaking broker 2 of 1 is an error that says so."""
    with pytest.raises(ServerError, match="no broker 2, only 1 to 1"):
        KafkaCluster(Path("nowhere")).kill_broker(2)


def test_up_starts_once_and_then_uses_what_is_there(services: Services) -> None:
    """The second up finds a healthy server and leaves it alone."""
    assert services.up("kafka")
    bootstrap = services.running()["kafka"].address
    assert not services.up("kafka")
    assert services.environment() == {"DRAKKAR_TEST_KAFKA": bootstrap}


def test_up_replaces_a_server_that_is_ill_or_of_another_size(services: Services) -> None:
    """A stale or too small cluster is stopped and made anew."""
    services.up("kafka")
    services.change(lambda cluster: cluster.kill_broker(1))
    assert services.environment() == {}
    assert services.up("kafka")
    assert services.up("kafka", brokers=3)
    assert len(services.running()["kafka"].members()) == 3
    assert not services.up("kafka")


def test_a_number_of_brokers_is_kafkas_alone(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three brokers are asked for: a server that is one process stays as it is, with its data."""
    monkeypatch.setattr(module, "KINDS", {"redis": FakeRedis})
    assert services.up("redis", brokers=3)
    assert not services.up("redis", brokers=3)


def test_down_stops_everything_and_forgets_it(services: Services) -> None:
    """After down nothing is known; a second down has nothing to do."""
    services.up("kafka")
    server = services.running()["kafka"]
    assert services.down() == ["kafka"]
    assert not server.healthy()
    assert services.running() == {}
    assert services.down() == []


def test_nothing_can_be_done_to_a_server_that_is_not_up(services: Services) -> None:
    """Changing a missing server says how to start it."""
    with pytest.raises(ServerError, match="make services-up"):
        services.change(lambda cluster: cluster.kill_broker(1))


def test_run_gives_the_command_the_addresses_and_stops_what_it_started(services: Services) -> None:
    """The command sees the address, its exit code comes back, and no server stays."""
    assert module.run(services, ["kafka"], ["sh", "-c", 'test -n "$DRAKKAR_TEST_KAFKA" && exit 7']) == 7
    assert services.running() == {}


def test_run_hands_a_signal_on_and_still_stops_what_it_started(services: Services) -> None:
    """A command that ends by SIGTERM, like one that CI cancels, gives 143 and leaves no server."""
    assert module.run(services, ["kafka"], ["sh", "-c", "kill -TERM $PPID; exec sleep 60"]) == 143
    assert services.running() == {}


def test_run_leaves_a_server_that_was_there(services: Services) -> None:
    """What somebody else started goes on."""
    services.up("kafka")
    assert module.run(services, ["kafka"], ["true"]) == 0
    assert services.running()["kafka"].healthy()


def test_status_says_what_is_down_and_exits_accordingly(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs see 3 until all is well; people see the command that helps."""
    assert module.status(services, as_json=False) == 3
    assert "make services-up" in capsys.readouterr().out
    services.up("kafka")
    assert module.status(services, as_json=True) == 0
    assert '"healthy": true' in capsys.readouterr().out


def test_an_unknown_server_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in a name ends with 2 before anything is started."""
    assert main(["up", "kafak"]) == 2
    assert "no such server: kafak; there is: kafka" in capsys.readouterr().err


def test_missing_programs_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the rights to install, the one command to run is printed and the exit code is 2."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as exit_info:
        module.install_programs(["kafka", "redis"])
    assert exit_info.value.code == 2
    assert "apt-get install -y default-jre-headless maven redis-server" in capsys.readouterr().out


@pytest.fixture
def listen() -> Callable[[bytes], int]:
    """Makes a listener that answers its first connection with fixed bytes and gives its port."""

    def serve(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))

        def once() -> None:
            with server, server.accept()[0] as connection:
                connection.recv(1024)
                connection.sendall(answer)

        threading.Thread(target=once).start()
        return int(server.getsockname()[1])

    return serve


def test_a_broker_answers_only_when_it_speaks_kafka(listen: Callable[[bytes], int]) -> None:
    """An open port is not enough: the answer must carry our correlation id and no error."""
    assert answers(listen(struct.pack(">iih", 6, 0x0D2A, 0)))
    assert not answers(listen(struct.pack(">iih", 6, 0x0D2A, 35)))
    assert not answers(listen(b"HTTP/1.1 400 Bad Request\r\n"))
    assert not answers(listen(b""))
