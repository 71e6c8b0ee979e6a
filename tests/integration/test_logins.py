"""Logins and rights on a real broker: each of them missing at the start, and while a worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it says nothing of what it exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from scripts.services import KafkaCluster, missing_programs
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("logins")]

PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_joe="r1ght";'
TOKENS = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
JOE = {"protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "joe", "sasl_password": "r1ght"}
OAUTH = {"protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}

CALLBACK = """
import base64, json, pathlib, time

def part(**fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

def token(config):
    with pathlib.Path("asked").open("a") as asked:
        asked.write(config + "\\n")
    now = time.time()
    return f'{part(alg="none")}.{part(sub="joe", iat=now, exp=now + 3600)}.', now + 3600

def wrong(config):
    return "token"

def broken(config):
    raise OSError("the server of tokens is down")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One broker with a second listener that wants a login, and rights that can be taken away."""
    if missing := missing_programs():
        pytest.skip(f"no {' and no '.join(missing)}")
    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
        "group.max.size": "1",
        "group.consumer.max.size": "1",
    }
    made = KafkaCluster(
        tmp_path_factory.mktemp("logins"), sasl={"PLAIN": PLAIN, "OAUTHBEARER": TOKENS}, properties=rights
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def scene(cluster: KafkaCluster, tmp_path: Path) -> Iterator[Scene]:
    """Topics and a group on it."""
    (tmp_path / "tokens.py").write_text(CALLBACK)
    made = Scene(cluster.bootstrap, tmp_path)
    yield made
    made.close()


def as_user(cluster: KafkaCluster, security: dict[str, Any], **kafka: Any) -> dict[str, Any]:
    """Settings of a worker that logs in; sinks and dead letters take them over."""
    return {"kafka": {"brokers": cluster.sasl_bootstrap, "security": security, **kafka}}


def test_f17_tokens_come_from_a_function(cluster: KafkaCluster, scene: Scene) -> None:
    """For the consumer, the producers and the checks at the start."""
    scene.fill(20)
    security = OAUTH | {"oauth_callback": "tokens:token"}
    overrides = as_user(cluster, security, client_config={"sasl.oauthbearer.config": "audience"})
    worker = scene.start(overrides=overrides, environment={"PYTHONPATH": str(scene.directory)})
    worker.until(lambda: len(scene.delivered()) == 20, "it delivered all", 60)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert set((scene.directory / "asked").read_text().split()) == {"audience"}


@pytest.mark.parametrize(
    ("security", "code", "said"),
    [
        (OAUTH, 2, "needs security.oauth_callback"),
        (OAUTH | {"oauth_callback": "tokens:nobody"}, 2, "can't import 'tokens:nobody'"),
        (OAUTH | {"oauth_callback": "nowhere:token"}, 2, "No module named 'nowhere'"),
        (OAUTH | {"oauth_callback": "tokens:time"}, 2, "not a function"),
        (OAUTH | {"oauth_callback": "tokens:wrong"}, 2, "returned a str; return the token and its expiry"),
        (OAUTH | {"oauth_callback": "tokens:broken"}, 1, "the server of tokens is down"),
        (JOE | {"sasl_password": "wrong"}, 2, "check kafka.security"),
        (JOE | {"sasl_mechanism": "SCRAM-SHA-256"}, 2, "kafka.security"),
    ],
    ids=["none", "name", "module", "kind", "wrong", "broken", "password", "mechanism"],
)
def test_a_login_that_can_not_work_ends_the_start(
    cluster: KafkaCluster, scene: Scene, security: dict[str, Any], code: int, said: str
) -> None:
    """With what is wrong, and at once where waiting helps nobody."""
    overrides = as_user(cluster, security, startup_timeout_s=3.0 if code == 1 else 60.0)
    worker = scene.start(overrides=overrides, environment={"PYTHONPATH": str(scene.directory)})
    assert worker.wait(30) == code
    assert said in worker.stderr
    assert "Traceback" not in worker.stderr


@pytest.mark.parametrize("kind", [ResourceType.GROUP, ResourceType.TOPIC], ids=["group", "topic"])
def test_f2_a_right_that_is_taken_away_fails_the_flow(cluster: KafkaCluster, scene: Scene, kind: ResourceType) -> None:
    """With exit code 1 and the remedy."""
    scene.fill(20)
    worker = scene.start(overrides=as_user(cluster, JOE, metadata_refresh_s=1.0))
    worker.until(lambda: worker.lines("partitions_assigned"), "it joined")
    scene.until_finished()
    name = scene.group if kind is ResourceType.GROUP else scene.source
    operation, deny = AclOperation.READ, AclPermissionType.DENY
    denied = AclBinding(kind, name, ResourcePatternType.LITERAL, "User:joe", "*", operation, deny)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_acls([denied])[denied].result(10)
    scene.fill(20)
    until(lambda: worker.exit_code is not None, 60, "the end of the worker")
    assert worker.exit_code == 1
    (line,) = worker.lines("flow_failed")
    assert "grant its user the permission" in line["reason"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_f2_a_group_that_is_full_takes_no_second_worker(scene: Scene, protocol: str) -> None:
    """It ends with 1 and says what to do; the first one reads on."""
    settings = {"kafka": {"group_protocol": protocol}}
    first = scene.start(overrides=settings)
    first.until(lambda: first.lines("partitions_assigned"), "it joined")
    second = scene.start(overrides=settings)
    assert second.wait(60) == 1
    (line,) = second.lines("flow_failed")
    assert "start fewer workers" in line["reason"]
    scene.fill(20)
    scene.until_finished()
    assert first.terminate() == 0, first.stderr
