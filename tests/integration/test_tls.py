"""TLS on a real broker: a handshake that can not succeed ends the start at once, with cause and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.services import KafkaCluster, missing_programs
from support.certificates import make_certificates
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("tls")]

TRUSTED = {"ssl_ca_location": "ca.pem", "ssl_endpoint_identification_algorithm": "none"}
CLIENT = {"ssl_certificate_location": "client.pem", "ssl_key_location": "client.key"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of them."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[KafkaCluster]:
    """One broker with a second listener that speaks TLS and wants a certificate of its clients."""
    if missing := missing_programs():
        pytest.skip(f"no {' and no '.join(missing)}")
    wanted = {
        "ssl.client.auth": "required",
        "ssl.truststore.location": str(certificates / "trust.p12"),
        "ssl.truststore.type": "PKCS12",
        "ssl.truststore.password": "changeit",
    }
    made = KafkaCluster(tmp_path_factory.mktemp("tls"), tls=certificates / "server.p12", properties=wanted)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def scene(cluster: KafkaCluster, tmp_path: Path) -> Iterator[Scene]:
    """Topics and a group on it."""
    made = Scene(cluster.bootstrap, tmp_path)
    yield made
    made.close()


def secured(cluster: KafkaCluster, certificates: Path, given: dict[str, str], **kafka: Any) -> dict[str, Any]:
    """Settings of a worker that speaks TLS; sinks and dead letters take them over."""
    files = {name: str(certificates / value) if value != "none" else value for name, value in given.items()}
    return {"kafka": {"brokers": cluster.tls_bootstrap, "security": {"protocol": "SSL", **files}, **kafka}}


def test_a_certificate_that_is_right_works(cluster: KafkaCluster, certificates: Path, scene: Scene) -> None:
    """For the consumer, the producers and the checks at the start."""
    scene.fill(20)
    worker = scene.start(overrides=secured(cluster, certificates, TRUSTED | CLIENT))
    worker.until(lambda: len(scene.delivered()) == 20, "it delivered all", 60)
    assert worker.terminate() == 0, worker.stderr


WRONG = {
    "unknown authority": (CLIENT, "ssl_ca_location"),
    "other authority": (CLIENT | {"ssl_ca_location": "other.pem"}, "ssl_ca_location"),
    "other name": (CLIENT | {"ssl_ca_location": "ca.pem"}, "write kafka.brokers as the certificate names them"),
    "no certificate": (TRUSTED, "set kafka.security.ssl_certificate_location"),
    "foreign certificate": (
        TRUSTED | {"ssl_certificate_location": "foreign.pem", "ssl_key_location": "foreign.key"},
        "set kafka.security.ssl_certificate_location",
    ),
    "key of another": (TRUSTED | CLIENT | {"ssl_key_location": "foreign.key"}, "ssl.key.location"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_handshake_that_fails_each_time_ends_the_start(
    cluster: KafkaCluster, certificates: Path, scene: Scene, case: str
) -> None:
    """With exit code 2, the cause and the remedy; nobody waits for start-up time."""
    given, said = WRONG[case]
    worker = scene.start(overrides=secured(cluster, certificates, given, startup_timeout_s=300.0))
    assert worker.wait(60) == 2, worker.stderr
    assert said in worker.stderr
    assert "Traceback" not in worker.stderr


def test_sinks_and_dead_letters_are_told_apart(cluster: KafkaCluster, certificates: Path, scene: Scene) -> None:
    """Those with brokers of their own name their own key."""
    own = {"brokers": cluster.tls_bootstrap, "security": {"protocol": "SSL"}}
    overrides: dict[str, dict[str, Any]] = {
        "kafka": {"startup_timeout_s": 300.0},
        "sinks": {"kafka": {"out": {"topic": scene.out, **own}}},
        "dlq": {"topic": scene.dlq, **own},
    }
    worker = scene.start(overrides=overrides)
    assert worker.wait(60) == 2, worker.stderr
    for key in ("sinks.kafka.out.security", "dlq.security"):
        assert f"{key}: no TLS connection to the brokers at {cluster.tls_bootstrap}: " in worker.stderr


def test_a_listener_of_another_kind_is_named_in_the_end(
    cluster: KafkaCluster, certificates: Path, scene: Scene
) -> None:
    """A proxy without brokers closes connections as well, so the start waits."""
    overrides = secured(cluster, certificates, TRUSTED, startup_timeout_s=3.0)
    overrides["kafka"]["brokers"] = cluster.bootstrap
    worker = scene.start(overrides=overrides)
    assert worker.wait(60) == 1, worker.stderr
    assert "set kafka.security.protocol to the listener's protocol" in worker.stderr
