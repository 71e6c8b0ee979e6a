"""`check`, `topics create` and `status` against real servers: what they find, and that they leave nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it says nothing of what it exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from scripts.servers import kafka as kafka_server
from support.kafka_io import Kafka, MakeCluster, committed, create_topic, delete_topics, produce
from support.names import unique
from support.scene import Scene
from support.worker import Worker

pytestmark = pytest.mark.integration

HANDLER = """\
from drakkar_flow import Handler, dataflow


class Words(Handler[dict, dict]):
    async def arrange(self, messages, pending):
        return []


flow = dataflow(Words())
"""


class Job:
    """A flow and its settings in a directory, and the command run on them."""

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        self.directory = directory
        self.settings = dict(settings)
        (directory / "job.py").write_text(HANDLER)

    def run(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        (self.directory / "job.yaml").write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "drakkar_flow", *arguments[:1], *arguments[1:]]
        ended = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=timeout_s)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    def failed(self) -> dict[str, str]:
        """What `check` says of each part that failed."""
        ended = self.run("check", "job.py", "--json")
        components = json.loads(ended.stdout)
        assert ended.returncode == max(part["exit_code"] for part in components)
        return {
            part["part"].split(" ")[0]: "; ".join(problem["what"] for problem in part["problems"])
            for part in components
            if not part["ok"]
        }


@pytest.fixture
def job(scene: Scene, tmp_path: Path) -> Job:
    """A job whose topics exist."""
    return Job(
        tmp_path,
        {
            "kafka": {"brokers": scene.bootstrap, "source_topic": scene.source, "consumer_group": scene.group},
            "executor": {"binary_path": "cat"},
            "sinks": {"kafka": {"out": {"topic": scene.out}}},
            "dlq": {"topic": scene.dlq},
            "metrics": {"port": 0},
        },
    )


def test_n13_check_of_a_job_that_works(job: Job, scene: Scene, postgres: str, redis: str, mongo: str) -> None:
    """All parts are ok, exit code 0, by both spellings; the group does not exist afterwards."""
    scene.fill(10)
    job.settings["sinks"] |= {
        "postgres": {"rows": {"dsn": postgres, "statements": {"one": "SELECT :a::int"}}},
        "redis": {"keys": {"url": redis}},
        "mongo": {"documents": {"uri": mongo, "database": unique("database").replace("-", "_")}},
        "filesystem": {"lines": {"base_path": "lines"}},
        "sqlite": {"file": {"path": "rows.db"}},
    }
    for command in (("check", "job.py"), ("run", "job.py", "--check")):
        ended = job.run(*command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.count("ok ") == 9
        assert "FAILED" not in ended.stdout
        assert "  not checked: tables and columns that only payloads name (PostgresPayload.table)\n" in ended.stdout
        assert "  not checked: collections that only payloads name (MongoPayload.collection)\n" in ended.stdout
    assert committed(scene.bootstrap, scene.group, scene.source) == {}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "status"])
def test_n13_brokers_that_never_had_a_group_are_asked_again(
    make_cluster: MakeCluster, tmp_path: Path, command: str
) -> None:
    """Their coordinator is not ready for a moment, which is no lack of rights."""
    cluster = make_cluster()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for topic in ("in", "out", "letters"):
        create_topic(admin, topic, 1)
    job = Job(
        tmp_path,
        {
            "kafka": {"brokers": cluster.bootstrap, "source_topic": "in", "consumer_group": "job"},
            "sinks": {"kafka": {"out": {"topic": "out"}}},
            "dlq": {"topic": "letters"},
        },
    )
    ended = job.run(command, "job.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_n13_check_names_what_is_missing(job: Job, postgres: str) -> None:
    """Topics, a table, a program of a persistent executor that is no worker: each with its reason."""
    job.settings["kafka"] |= {"source_topic": "no-source"}
    job.settings["dlq"] = {"topic": "no-letters"}
    job.settings["executor"] = {
        "mode": "persistent",
        "binary_path": "true",
        "persistent": {"start_timeout_s": 5, "restart_max_s": 0.1},
    }
    statements = {"gone": "INSERT INTO no_such_table (a) VALUES (:a)"}
    job.settings["sinks"] |= {"postgres": {"rows": {"dsn": postgres, "statements": statements}}}
    failed = job.failed()
    assert "topic 'no-source' does not exist" in failed["kafka"]
    assert "topic 'no-letters' does not exist" in failed["dlq"]
    assert 'relation "no_such_table" does not exist' in failed["sinks.postgres.rows"]
    assert failed["executor"]
    assert "sinks.kafka.out" not in failed


def test_n13_check_names_what_can_not_be_reached(job: Job) -> None:
    """Exit code 1, and every server at once."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{closed.getsockname()[1]}"
        job.settings["sinks"] = {
            "postgres": {"a": {"dsn": f"postgres://u:secret@{at}/d"}},
            "redis": {"a": {"url": f"redis://{at}"}},
            "mongo": {"a": {"uri": f"mongodb://{at}/?serverSelectionTimeoutMS=500", "database": "d"}},
            "http": {"a": {"url": f"http://{at}/"}},
        }
        ended = job.run("check", "job.py")
    assert ended.returncode in (1, 2), ended.stdout
    for kind in ("postgres", "redis", "mongo", "http"):
        assert f"FAILED sinks.{kind}.a" in ended.stdout
    assert "secret" not in ended.stdout


@pytest.fixture
def reader(postgres: str) -> Iterator[tuple[str, str]]:
    """A table, and the connection string of a role that may only read it."""
    table, role = unique("table").replace("-", "_"), unique("role").replace("-", "_")
    run = _sql(postgres)
    run(f"CREATE TABLE {table} (a int); CREATE ROLE {role} LOGIN; GRANT SELECT ON {table} TO {role}")
    yield table, postgres.replace("drakkar@", f"{role}@")
    run(f"DROP TABLE {table}; DROP ROLE {role}")


def _sql(dsn: str) -> Callable[[str], None]:
    import asyncio

    import asyncpg

    async def execute(statements: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    return lambda statements: asyncio.run(execute(statements))


def test_n13_check_asks_postgres_for_rights_and_columns(job: Job, reader: tuple[str, str]) -> None:
    """A right that is not granted and a column that does not exist; nothing is written."""
    table, dsn = reader
    statements = {
        "denied": f"INSERT INTO {table} (a) VALUES (:a)",
        "column": f"SELECT b FROM {table} WHERE a = :a",
        "fine": f"SELECT a FROM {table} WHERE a = :a",
    }
    job.settings["sinks"] = {"postgres": {"rows": {"dsn": dsn, "statements": statements}}}
    told = job.failed()["sinks.postgres.rows"]
    assert f"permission denied for table {table}" in told
    assert 'column "b" does not exist' in told
    assert told.count(";") == 1


def test_n13_check_asks_redis_for_the_right_to_write(job: Job, redis: str) -> None:
    """A user of Redis that may only read."""
    import redis as client

    name = unique("user").replace("-", "")
    admin = client.Redis.from_url(redis)
    admin.execute_command("ACL", "SETUSER", name, "on", ">pw", "~*", "+@read", "+@connection")  # type: ignore[no-untyped-call]  # redis leaves it untyped
    try:
        job.settings["sinks"] = {"redis": {"keys": {"url": redis.replace("redis://", f"redis://{name}:pw@")}}}
        assert "Redis refuses to write" in job.failed()["sinks.redis.keys"]
    finally:
        admin.execute_command("ACL", "DELUSER", name)  # type: ignore[no-untyped-call]  # redis leaves it untyped
        admin.close()


@pytest.mark.slow
def test_n14_rights_that_kafka_does_not_grant(
    make_cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No right to read the group or to write a topic: each is named by `check`."""
    plain = kafka_server.server_properties
    guard = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    monkeypatch.setattr(kafka_server, "server_properties", lambda *given: {**plain(*given), **guard})
    cluster = make_cluster()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for topic in ("in", "out", "letters"):
        create_topic(admin, topic, 1)
    denied = [(ResourceType.GROUP, "job", AclOperation.READ), (ResourceType.TOPIC, "out", AclOperation.WRITE)]
    rules = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)
        for kind, name, operation in denied
        for operation, permission in ((operation, AclPermissionType.DENY), (AclOperation.ALL, AclPermissionType.ALLOW))
    ]
    for done in admin.create_acls(rules).values():
        done.result(20)
    job = Job(
        tmp_path,
        {
            "kafka": {"brokers": cluster.bootstrap, "source_topic": "in", "consumer_group": "job"},
            "sinks": {"kafka": {"out": {"topic": "out"}}},
            "dlq": {"topic": "letters"},
            "metrics": {"port": 0},
        },
    )
    failed = job.failed()
    assert failed.keys() == {"kafka", "sinks.kafka.out"}
    assert failed["kafka"] == "no right to read group 'job'"
    assert failed["sinks.kafka.out"] == "no right to write topic 'out'"


def test_n14_a_hopeless_start_ends_at_once(job: Job) -> None:
    """A topic that does not exist ends it, though a database could still come up within the start-up time."""
    job.settings["kafka"] |= {"source_topic": "no-source", "startup_timeout_s": 300}
    job.settings["sinks"] = {"redis": {"keys": {"url": "redis://127.0.0.1:1"}}}
    began = time.monotonic()
    ended = job.run("run", "job.py")
    assert ended.returncode == 2
    assert "topic 'no-source' does not exist" in ended.stderr
    assert time.monotonic() - began < 100


def test_n18_topics_are_created_once_and_never_changed(kafka: Kafka, job: Job) -> None:
    """A dry run changes nothing; what exists is compared."""
    names = {kind: unique(kind) for kind in ("in", "out", "letters")}
    job.settings["kafka"] |= {"source_topic": names["in"]}
    job.settings["sinks"] = {"kafka": {"out": {"topic": names["out"]}}}
    job.settings["dlq"] = {"topic": names["letters"]}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    try:
        dry = job.run("topics", "create", "job.py", "--dry-run")
        assert (dry.returncode, dry.stdout.count("missing  ")) == (0, 3)
        assert not set(names.values()) & set(admin.list_topics(timeout=10).topics)
        made = job.run("topics", "create", "job.py", "--partitions", "3", "--replication", "1")
        assert (made.returncode, made.stdout.count("created  ")) == (0, 3)
        there = job.run("topics", "create", "job.py", "--partitions", "5")
        assert (
            f"exists   {names['in']}  (kafka.source_topic) 3 partitions, 1 replica, 5 partitions asked for"
            in there.stdout
        )
        topics = admin.list_topics(timeout=10).topics
        assert [len(topics[name].partitions) for name in names.values()] == [3, 3, 3]
    finally:
        delete_topics(admin, list(names.values()))


def test_n18_status_of_a_group_that_works(scene: Scene, job: Job) -> None:
    """Members, committed and end offsets, lag and dead letters; the group stays as it is."""
    worker: Worker = scene.start()
    worker.until_running()
    scene.fill(20)
    scene.until_finished()
    produce(scene.bootstrap, scene.dlq, ["letter"])
    told = json.loads(job.run("status", "job.py", "--json").stdout)
    assert (told["state"], len(told["members"]), told["lag"], told["dlq_records"]) == ("stable", 1, 0, 1)
    assert sum(partition["end"] for partition in told["partitions"]) == 20
    assert worker.terminate() == 0
    produce(scene.bootstrap, scene.source, ["1", "2"], partition=0)
    text = job.run("status", "job.py").stdout
    assert f"group    {scene.group}: empty, 0 members, lag 2" in text


def test_n18_status_of_brokers_that_do_not_answer(job: Job) -> None:
    """One line, exit code 1."""
    job.settings["kafka"] |= {"brokers": "127.0.0.1:1"}
    ended = job.run("status", "job.py")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 2)
    assert "the brokers at 127.0.0.1:1 do not answer" in ended.stderr
    ended = job.run("topics", "create", "job.py")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 2)
