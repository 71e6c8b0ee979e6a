"""The brake in a real worker: a mistake ends it with exit code 1 and costs no record, at each restart."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import yaml

from support.kafka_io import Kafka, MakeTopic, committed, produce, read_all
from support.names import unique

pytestmark = pytest.mark.integration

FLOWS = {
    "route": """
from drakkar_flow import FilePayload, StreamFlow
from drakkar_flow.graph.nodes import KafkaSink
flow = StreamFlow("mistake").decode(str).map(lambda v: FilePayload(path="a", data=v)).route(KafkaSink("out"))
""",
    "decode": """
from drakkar_flow import StreamFlow
flow = StreamFlow("mistake").decode(dict).route()
""",
    "program": """
from drakkar_flow import ExecutorTask, Handler
class Words(Handler):
    async def arrange(self, messages, pending):
        wrong = {"binary_path": "sh", "args": ["-c", "exit 7"]}
        return [ExecutorTask(task_id=m.label, source_offsets=[m.offset], **wrong) for m in messages]
flow = Words()
""",
}


@pytest.mark.parametrize("mistake", FLOWS)
def test_n1_a_mistake_ends_the_worker_and_costs_no_record(
    kafka: Kafka, make_topic: MakeTopic, tmp_path: Path, mistake: str
) -> None:
    """One line names cause, count, first record, remedy and way out; three restarts commit and write nothing."""
    source, out, dlq, group = make_topic(2), make_topic(1), make_topic(1), unique("group")
    produce(kafka.bootstrap, source, [f"v{number}" for number in range(400)])
    (tmp_path / "flow.py").write_text(FLOWS[mistake])
    settings = {
        "kafka": {"brokers": kafka.bootstrap, "source_topic": source, "consumer_group": group},
        "sinks": {"kafka": {"out": {"topic": out}}, "filesystem": {"files": {"base_path": str(tmp_path / "files")}}},
        "dlq": {"topic": dlq},
        "metrics": {"enabled": False},
        "executor": {"max_retries": 0},
    }
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "drakkar_flow.cli.main", "run", str(tmp_path / "flow.py")]
    for _ in range(3):
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        lines = [json.loads(text) for text in ended.stderr.splitlines() if text.startswith("{")]
        assert ended.returncode == 1, ended.stderr[-3000:]
        (failed,) = [line for line in lines if line["event"] == "flow_failed"]
        assert failed["reason"].startswith("the brake: ")
        assert "dlq.stop_after: 0" in failed["reason"]
        assert f"{source}:" in failed["reason"]
        assert ["reason" in line for line in lines if line["event"] == "drakkar_failed"] == [False]
    assert all(offset <= 0 for offset in committed(kafka.bootstrap, group, source).values())
    assert read_all(kafka.bootstrap, dlq) == []
    if mistake == "route":
        unused = [line["where"] for line in lines if line["event"] == "config_notice"]
        assert unused == ["sinks.filesystem.files"]
    assert [line.get("dlq") for line in lines if line["event"] == "sinks_when_open"] != [None]


REFUSED_BY_POSTGRES = {
    "table": ({"table": "{table}_missing", "data": {"id": 1}}, 'relation "{table}_missing" does not exist'),
    "column": ({"table": "{table}", "data": {"id": 1, "missing": 2}}, 'column "missing" of relation "{table}"'),
    "constraint": (
        {"table": "{table}", "op": "upsert", "data": {"id": 1}, "conflict": ["id"]},
        "no unique or exclusion constraint matching the ON CONFLICT specification",
    ),
    "rights": ({"table": "{table}", "data": {"id": 1}}, "permission denied for table {table}"),
}
POSTGRES_FLOW = """
import json, pathlib
from drakkar_flow import PostgresPayload, StreamFlow
row = json.loads(pathlib.Path(__file__).with_name("row.json").read_text())
flow = StreamFlow("mistake").decode(str).map(lambda _: PostgresPayload(**row)).route()
"""


@pytest.mark.parametrize("mistake", REFUSED_BY_POSTGRES)
def test_n1_what_postgres_refuses_whatever_the_row_costs_no_record(
    kafka: Kafka, postgres: str, make_topic: MakeTopic, tmp_path: Path, mistake: str
) -> None:
    """The worker ends with 1 and one line with cause and remedy; nothing is committed or a dead letter."""
    source, dlq, group, table = make_topic(2), make_topic(1), unique("group"), unique("rows").replace("-", "_")
    produce(kafka.bootstrap, source, [f"v{number}" for number in range(400)])
    row, refusal = REFUSED_BY_POSTGRES[mistake]
    (tmp_path / "row.json").write_text(json.dumps(row).replace("{table}", table))
    (tmp_path / "flow.py").write_text(POSTGRES_FLOW)
    settings = {
        "kafka": {"brokers": kafka.bootstrap, "source_topic": source, "consumer_group": group},
        "sinks": {"postgres": {"main": {"dsn": re.sub(r"//[^@]+@", f"//{table}@", postgres)}}},
        "dlq": {"topic": dlq},
        "metrics": {"enabled": False},
    }
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(settings))
    rights = "" if mistake == "rights" else f"; GRANT ALL ON {table} TO {table}"
    asyncio.run(_execute(postgres, f"CREATE TABLE {table} (id int); CREATE ROLE {table} LOGIN{rights}"))
    try:
        command = [sys.executable, "-m", "drakkar_flow.cli.main", "run", str(tmp_path / "flow.py")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    finally:
        asyncio.run(_execute(postgres, f"DROP TABLE {table}; DROP ROLE {table}"))
    lines = [json.loads(text) for text in ended.stderr.splitlines() if text.startswith("{")]
    assert ended.returncode == 1, ended.stderr[-3000:]
    (failed,) = [line for line in lines if line["event"] == "flow_failed"]
    assert failed["reason"].startswith("the brake: ")
    assert refusal.replace("{table}", table) in failed["reason"]
    assert "grant the right, in the database of sinks.postgres.main.dsn" in failed["reason"]
    assert all(offset <= 0 for offset in committed(kafka.bootstrap, group, source).values())
    assert read_all(kafka.bootstrap, dlq) == []


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
