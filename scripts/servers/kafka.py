"""Apache Kafka in KRaft mode: one or more brokers as plain processes on loopback."""

from __future__ import annotations

import base64
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scripts.servers.maven import fetch
from scripts.servers.process import ServerError, ServerProcess, free_ports, tail, wait_until

__all__ = ["Broker", "KafkaCluster", "answers", "install", "server_properties"]

VERSION = "4.1.0"
POM = Path(__file__).resolve().parents[1] / "kafka" / "pom.xml"
JAVA = ["java", "-XX:TieredStopAtLevel=1"]
HEAP_MIB, SHARED_HEAP_MIB = 512, 256
"""Of the only broker of a cluster, and of each of several."""
READY = b"Kafka Server started"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Broker:
    """One node: where it listens, where its files are, and the process that serves it now."""

    node: int
    """From 1 on."""
    port: int
    controller_port: int
    directory: Path
    process: ServerProcess | None = None
    sasl_port: int = 0
    """Port of the SASL listener; 0 when there is none."""
    tls_port: int = 0
    """Port of the TLS listener; 0 when there is none."""

    @property
    def log(self) -> Path:
        """What the broker printed, over all its restarts."""
        return self.directory / "broker.log"

    @property
    def properties(self) -> Path:
        """The file it was started with."""
        return self.directory / "server.properties"

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.alive()

    def healthy(self) -> bool:
        """Whether its process runs and answers a request."""
        return self.alive() and answers(self.port)


class KafkaCluster:
    """Brokers that share one fresh cluster; node i is `brokers[i - 1]`.

    All nodes are brokers, and the largest odd number of them are controllers too, so three brokers survive the loss
    of any one. Nothing here is for concurrent use by several threads. Every method returns when it is done.

    Args:
        directory: gets one folder per node with its properties, log and data; removed and made anew by `start`.
        brokers: how many.
        sasl: the JAAS line of each SASL mechanism of a second listener, e.g. `{"PLAIN": "...PlainLoginModule ...;"}`.
        tls: the PKCS12 keystore, with the password `changeit`, of a listener that speaks TLS.
        properties: further settings of every broker.
    """

    def __init__(
        self,
        directory: Path,
        brokers: int = 1,
        sasl: Mapping[str, str] | None = None,
        tls: Path | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._properties = {**_sasl_properties(sasl or {}), **_tls_properties(tls), **(properties or {})}
        ports = free_ports(4 * brokers)
        self.brokers = [
            Broker(
                node,
                ports.pop(),
                ports.pop(),
                directory / f"node-{node}",
                sasl_port=ports.pop() * bool(sasl),
                tls_port=ports.pop() * bool(tls),
            )
            for node in range(1, brokers + 1)
        ]

    @property
    def bootstrap(self) -> str:
        """The value of `bootstrap.servers`, all nodes, whether they run or not."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def sasl_bootstrap(self) -> str:
        """The value of `bootstrap.servers` for clients that log in."""
        return ",".join(f"127.0.0.1:{broker.sasl_port}" for broker in self.brokers)

    @property
    def tls_bootstrap(self) -> str:
        """The value of `bootstrap.servers` for clients that speak TLS."""
        return ",".join(f"127.0.0.1:{broker.tls_port}" for broker in self.brokers)

    @property
    def address(self) -> str:
        """What a client is given to connect."""
        return self.bootstrap

    def members(self) -> list[dict[str, Any]]:
        """The brokers, for a report."""
        return [
            {
                "node": broker.node,
                "port": broker.port,
                "pid": broker.process.pid if broker.process else None,
                "healthy": broker.healthy(),
                "log": str(broker.log),
            }
            for broker in self.brokers
        ]

    def healthy(self) -> bool:
        """Whether every broker runs and answers."""
        return all(broker.healthy() for broker in self.brokers)

    def start(self) -> None:
        """Start all brokers with empty data directories.

        Raises:
            ServerError: a broker ended or did not become ready; those that ran are stopped again.
        """
        libs = install()
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        for broker in self.brokers:
            shutil.rmtree(broker.directory, ignore_errors=True)
            broker.directory.mkdir(parents=True)
            broker.properties.write_text(_render({**server_properties(broker, self.brokers), **self._properties}))
            _format(broker, cluster_id, libs)
        try:
            self._launch(*(broker.node for broker in self.brokers))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all brokers, keep their logs, remove their data; harmless when nothing runs."""
        ServerProcess.stop([broker.process for broker in self.brokers if broker.process], STOP_TIMEOUT_S)
        for broker in self.brokers:
            self._replace(broker.node, None)
            shutil.rmtree(broker.directory / "data", ignore_errors=True)

    def stop_broker(self, node: int) -> None:
        """End one broker in an orderly way (SIGTERM); its data stays."""
        if process := self._broker(node).process:
            ServerProcess.stop([process], STOP_TIMEOUT_S)
        self._replace(node, None)

    def kill_broker(self, node: int) -> None:
        """End one broker as a crash would (SIGKILL); its data stays as it is."""
        if process := self._broker(node).process:
            process.kill()
        self._replace(node, None)

    def freeze_broker(self, node: int) -> None:
        """Stop one broker as a cut network or a starved machine would (SIGSTOP); `thaw_broker` lets it go on."""
        if process := self._broker(node).process:
            process.send(signal.SIGSTOP)

    def thaw_broker(self, node: int) -> None:
        """Let a frozen broker go on."""
        if process := self._broker(node).process:
            process.send(signal.SIGCONT)

    def start_broker(self, node: int) -> None:
        """Start a stopped or killed broker again, with the same ports and data; harmless when it runs.

        Raises:
            ServerError: it ended or did not become ready.
        """
        if not self._broker(node).alive():
            self._launch(node)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON values."""
        brokers = [asdict(broker) | {"directory": str(broker.directory)} for broker in self.brokers]
        return {"directory": str(self.directory), "bootstrap": self.bootstrap, "brokers": brokers}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> KafkaCluster:
        """The cluster that another program started; its processes may be gone by now."""
        cluster = cls(Path(state["directory"]), brokers=0)
        cluster.brokers = [
            Broker(**entry | {"directory": Path(entry["directory"]), "process": process and ServerProcess(**process)})
            for entry in state["brokers"]
            for process in [entry["process"]]
        ]
        return cluster

    def _broker(self, node: int) -> Broker:
        if not 1 <= node <= len(self.brokers):
            raise ServerError(f"there is no broker {node}, only 1 to {len(self.brokers)}")
        return self.brokers[node - 1]

    def _replace(self, node: int, process: ServerProcess | None) -> None:
        self.brokers[node - 1] = replace(self.brokers[node - 1], process=process)

    def _launch(self, *nodes: int) -> None:
        """Spawn first, wait then: controllers need each other to become ready."""
        marks = {node: _size(self._broker(node).log) for node in nodes}
        for node in nodes:
            broker = self._broker(node)
            heap = f"-Xmx{HEAP_MIB if len(self.brokers) == 1 else SHARED_HEAP_MIB}m"
            argv = [*JAVA, heap, "-cp", f"{install()}/*", "kafka.Kafka", str(broker.properties)]
            self._replace(node, ServerProcess.spawn(argv, broker.log))
        for node, mark in marks.items():
            _await_ready(self._broker(node), mark)


def server_properties(broker: Broker, brokers: Sequence[Broker]) -> dict[str, str | int]:
    """The settings of one node: everything small, quick and explicit, so that tests meet no surprise."""
    controllers = brokers[: len(brokers) - 1 + len(brokers) % 2]
    listeners = {"PLAINTEXT": broker.port} | ({"CONTROLLER": broker.controller_port} if broker in controllers else {})
    advertised = {"PLAINTEXT": broker.port}
    if broker.sasl_port:
        listeners["SASL_PLAINTEXT"] = advertised["SASL_PLAINTEXT"] = broker.sasl_port
    if broker.tls_port:
        listeners["SSL"] = advertised["SSL"] = broker.tls_port
    copies = min(3, len(brokers))
    return {
        "process.roles": "broker,controller" if broker in controllers else "broker",
        "node.id": broker.node,
        "controller.quorum.voters": ",".join(f"{each.node}@127.0.0.1:{each.controller_port}" for each in controllers),
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
        "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in advertised.items()),
        "log.dirs": str(broker.directory / "data"),
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,  # a killed broker may come back only after this; 9000 is the default
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # Members of the protocol `consumer` take both from the broker; the defaults are 5 and 45 s.
        "group.consumer.heartbeat.interval.ms": 500,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.session.timeout.ms": 6000,
        "group.consumer.min.session.timeout.ms": 6000,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": 1,
    }


def _sasl_properties(sasl: Mapping[str, str]) -> dict[str, str]:
    """The settings of a SASL listener beside the plain one, which the brokers go on to use among themselves."""
    if not sasl:
        return {}
    names = ("PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", "SASL_PLAINTEXT:SASL_PLAINTEXT")
    lines = {f"listener.name.sasl_plaintext.{name.lower()}.sasl.jaas.config": line for name, line in sasl.items()}
    return {"listener.security.protocol.map": ",".join(names), "sasl.enabled.mechanisms": ",".join(sasl), **lines}


def _tls_properties(keystore: Path | None) -> dict[str, str]:
    """The settings of a TLS listener, which asks for no certificate of the client."""
    if keystore is None:
        return {}
    return {
        "ssl.keystore.location": str(keystore),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": "changeit",
        "ssl.key.password": "changeit",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL",
    }


def answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a Kafka broker on this loopback port answers an ApiVersions request."""
    correlation, client = 0x0D2A, b"services"
    request = struct.pack(f">hhih{len(client)}s", 18, 0, correlation, len(client), client)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(10, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (correlation, 0)


def install() -> Path:
    """The folder with Kafka's jars, shared by all checkouts of a user; fetched by Maven the first time.

    Raises:
        ServerError: Maven failed.
    """
    return fetch(f"kafka-{VERSION}", POM)


def _render(properties: Mapping[str, str | int]) -> str:
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def _format(broker: Broker, cluster_id: str, libs: Path) -> None:
    argv = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(broker.properties)]
    with broker.log.open("ab") as log:
        done = subprocess.run([*JAVA, "-cp", f"{libs}/*", *argv], stdout=log, stderr=log, check=False)
    if done.returncode:
        raise ServerError(f"Kafka could not format {broker.directory}:\n{tail(broker.log)}")


def _await_ready(broker: Broker, mark: int) -> None:
    """Wait until the log says so after byte `mark`, and a request is answered."""

    def ready() -> bool:
        return not broker.alive() or (READY in _since(broker.log, mark) and answers(broker.port))

    try:
        wait_until(ready, START_TIMEOUT_S, f"Kafka broker {broker.node}")
    except ServerError as error:
        raise ServerError(f"{error}; its log {broker.log} ends with:\n{tail(broker.log)}") from None
    if not broker.alive():
        raise ServerError(f"Kafka broker {broker.node} ended; its log {broker.log} ends with:\n{tail(broker.log)}")


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _since(log: Path, mark: int) -> bytes:
    with log.open("rb") as file:
        file.seek(mark)
        return file.read()
