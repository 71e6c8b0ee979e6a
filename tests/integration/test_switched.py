"""Programs written for py-drakkar run as they are but for the import: sinks, offsets, dead letters, metrics, logs."""

from __future__ import annotations

import asyncio
import json
import operator
import shutil
import signal
from collections.abc import Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Message
from pymongo import MongoClient
from redis import Redis

from support.kafka_io import MakeTopic, headers_of, produce, read_all
from support.names import unique
from support.scene import Scene
from support.serving import serving
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SWITCHED = Path(__file__).parent / "switched"


# --- the programs -----------------------------------------------------------------------------------------


def run(scene: Scene, version: str, settings: dict[str, str]) -> Worker:
    """`python handler.py` beside its drakkar.yaml, with one word changed; settings are variables, as in production."""
    original = (SWITCHED / version / "handler.py").read_text()
    assert original.count("from drakkar import") == 1
    assert "drakkar_flow" not in original
    (scene.directory / "handler.py").write_text(original.replace("from drakkar import", "from drakkar_flow import"))
    shutil.copy(SWITCHED / version / "drakkar.yaml", scene.directory)
    recordings = {"DRAKKAR_DEBUG__DB_DIR": str(scene.directory / "recordings")}  # the file's is not for tests
    return scene.launch("handler.py", environment=settings | recordings)


def dead_letters(scene: Scene, topic: str, expected: int) -> tuple[list[Message], list[dict[str, Any]]]:
    """The letters that hold records, and the bodies of those that hold payloads."""
    letters = read_all(scene.bootstrap, topic, expected)
    assert len(letters) == expected
    bodies = [value for letter in letters if b"original_payloads" in (value := letter.value() or b"")]
    return [each for each in letters if each.value() not in bodies], list(map(json.loads, bodies))


def values(scene: Scene, topic: str) -> list[dict[str, Any]]:
    """What a topic holds."""
    return [json.loads(message.value() or b"") for message in read_all(scene.bootstrap, topic)]


# --- the servers ------------------------------------------------------------------------------------------


class Schema:
    """A schema of its own in the database; a program that gets `dsn` has its tables there."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.name = unique("s").replace("-", "_")
        self.dsn = f"{dsn}{'&' if '?' in dsn else '?'}search_path={self.name}"
        self.rows(f"CREATE SCHEMA {self.name}", dsn)

    def rows(self, sql: str, dsn: str = "") -> list[tuple[Any, ...]]:
        """Run one statement."""

        async def fetch() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(dsn or self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return _run(fetch())

    def drop(self) -> None:
        """Remove it with all its tables."""
        self.rows(f"DROP SCHEMA {self.name} CASCADE", self._dsn)


def _run(work: Coroutine[Any, Any, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    return asyncio.run(work)


@pytest.fixture
def schema(postgres: str) -> Iterator[Schema]:
    """A schema that goes away after the test."""
    made = Schema(postgres)
    yield made
    made.drop()


@pytest.fixture
def cache(redis: str) -> Iterator[Redis]:
    """A client of the shared server."""
    with Redis.from_url(redis, decode_responses=True) as client:
        yield client


@pytest.fixture
def database(mongo: str) -> Iterator[tuple[str, Any]]:
    """The address of the server, and a database that goes away after the test."""
    client: MongoClient[Any] = MongoClient(mongo)
    name = unique("db")
    yield mongo, client[name]
    client.drop_database(name)
    client.close()


class Hook(ThreadingHTTPServer):
    """A web service that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _Answering)


class _Answering(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append((self.headers["x-team"], json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A service on a thread of its own."""
    with serving(Hook()) as made:
        yield made


# --- 0.9.2 ------------------------------------------------------------------------------------------------


@pytest.fixture
def search(scene: Scene, make_topic: MakeTopic, schema: Schema, redis: str) -> dict[str, str]:
    """The variables of the search: old prefix, and what is this place's."""
    (scene.directory / "archive").mkdir()
    grep = shutil.which("grep")
    assert grep is not None
    return {
        "WORKER_ID": "searcher-1",
        "DRAKKAR_KAFKA__BROKERS": scene.bootstrap,
        "DRAKKAR_KAFKA__SOURCE_TOPIC": scene.source,
        "DRAKKAR_KAFKA__CONSUMER_GROUP": scene.group,
        "DRAKKAR_EXECUTOR__BINARY_PATH": grep,
        "DRAKKAR_SINKS__KAFKA__HITS__TOPIC": scene.out,
        "DRAKKAR_SINKS__KAFKA__WINDOWS__TOPIC": make_topic(1),
        "DRAKKAR_SINKS__POSTGRES__MAIN__DSN": schema.dsn,
        "DRAKKAR_SINKS__REDIS__CACHE__URL": redis,
        "DRAKKAR_SINKS__REDIS__CACHE__KEY_PREFIX": f"{schema.name}:",
        "DRAKKAR_SINKS__FILESYSTEM__ARCHIVE__BASE_PATH": str(scene.directory / "archive"),
        "DRAKKAR_DLQ__TOPIC": scene.dlq,
        "DRAKKAR_METRICS__PORT": "0",
    }


def ask(scene: Scene) -> dict[str, dict[str, Any]]:
    """Requests: 30 find something, 5 don't, 1 has no file, 1 a file whose name the table refuses, 1 is unreadable."""
    found: dict[str, dict[str, Any]] = {}
    requests: list[dict[str, str]] = []
    for n in range(30):
        file = scene.directory / f"log-{n}.txt"
        file.write_text(f"start\nneedle {n}\nmiddle\nneedle\n")
        requests.append({"request_id": f"r{n}", "pattern": "needle", "file": str(file)})
        found[f"r{n}"] = {"request_id": f"r{n}", "file": str(file), "lines": [2, 4]}
    requests += [{"request_id": f"none{n}", "pattern": "absent", "file": requests[n]["file"]} for n in range(5)]
    requests.append({"request_id": "no-file", "pattern": "x", "file": str(scene.directory / "nowhere")})
    far = f"{scene.directory}/{'./' * 100}log-0.txt"
    requests.append({"request_id": "far", "pattern": "needle", "file": far})
    found["far"] = {"request_id": "far", "file": far, "lines": [2, 4]}
    produce(scene.bootstrap, scene.source, [json.dumps(request) for request in requests] + ["not json"])
    return found


def test_a_program_of_0_9_2_runs_with_only_its_import_changed(
    scene: Scene, schema: Schema, cache: Redis, search: dict[str, str]
) -> None:
    """Every sink has what it should, offsets are at the end, refused rows and unreadable messages are dead letters."""
    found = ask(scene)
    worker = run(scene, "v0_9_2", search)
    scene.until_finished()
    worker.until(lambda: schema.rows("SELECT beats FROM heartbeats"), "the periodic method ran")
    metrics = worker.metrics()
    assert worker.terminate(signal.SIGTERM) == 0, worker.stderr

    messages = read_all(scene.bootstrap, scene.out, len(found))
    assert {(message.key() or b"").decode(): json.loads(message.value() or b"") for message in messages} == found
    assert len(messages) == len(found)
    archived = (scene.directory / "archive" / "hits.jsonl").read_text().splitlines()
    assert {line["request_id"]: line for line in map(json.loads, archived)} == found
    assert sorted(schema.rows("SELECT request_id, count FROM hits")) == sorted((f"r{n}", 2) for n in range(30))
    for request_id, hits in found.items():
        key = f"{schema.name}:hits:{request_id}"
        assert json.loads(str(cache.getdel(key))) == {"request_id": request_id, "file": hits["file"], "count": 2}
    windows = values(scene, search["DRAKKAR_SINKS__KAFKA__WINDOWS__TOPIC"])
    assert (sum(window["found"] for window in windows), sum(window["failed"] for window in windows)) == (31, 6)
    check_letters_of_0_9_2(scene, found["far"])
    check_metrics_of_0_9_2(metrics, scene.group)
    check_log_of_0_9_2(worker)


def check_letters_of_0_9_2(scene: Scene, refused: dict[str, Any]) -> None:
    """The unreadable message as it was; the row the database refused, whole."""
    (unreadable,), (body,) = dead_letters(scene, scene.dlq, 2)
    assert unreadable.value() == b"not json"
    assert headers_of(unreadable)["drakkar.label"].startswith(b"unreadable ")
    (payload,) = map(json.loads, body["original_payloads"])
    assert payload["data"] == {"request_id": "far", "file": refused["file"], "count": 2}
    assert (body["sink_type"], body["sink_name"]) == ("postgres", "main")


def check_metrics_of_0_9_2(page: str, group: str) -> None:
    """Under the names of 0.9.2, whatever has happened; the program's own counter, too."""
    assert "search_lines_found_total 62.0" in page
    assert 'drakkar_executor_tasks_total{status="completed"} 31.0' in page
    assert "drakkar_task_retries_total 2.0" in page
    assert f'consumer_group="{group}"' in page
    assert 'worker_id="searcher-1"' in page
    assert 'drakkar_sink_circuit_open{sink_name="hits",sink_type="kafka"} 0.0' in page
    missing = [name for name in NAMES_OF_0_9_2.split() if f"\n# TYPE drakkar_{name} " not in page]
    assert missing == []


def check_log_of_0_9_2(worker: Worker) -> None:
    """Notices for what has no effect; lines of ours and of the program with the documented fields."""
    notices = {line["where"].split()[-1]: line["what"] for line in worker.lines("config_notice")}
    assert {"debug.port", "debug.retention_max_events", "sinks.kafka.hits.ui_url"} <= notices.keys()
    assert worker.lines("recorder_started")
    (started,) = worker.lines("drakkar_starting")
    assert started["worker_id"] == "searcher-1"
    assert started["cluster_name"] == "search"
    assert len(worker.lines("search_failed")) == 5 + 3
    assert {line["exit_code"] for line in worker.lines("search_failed")} == {1, 2}
    assert [line["sink"] for line in worker.lines("not_delivered")] == ["main"]
    assert worker.lines("search_partitions")[0]["category"] == "handler"
    assert "let-me-in" not in worker.stderr


NAMES_OF_0_9_2 = """
    messages_consumed_total executor_tasks_total executor_duration_seconds executor_pool_active
    executor_timeouts_total task_retries_total batch_duration_seconds partition_queue_size offset_lag
    backpressure_active total_queued assigned_partitions executor_idle_slot_seconds_total
    consumer_idle_seconds_total consumer_errors_total offsets_committed_total rebalance_events_total
    sink_deliver_duration_seconds sink_deliver_errors_total sink_payloads_delivered_total
    sink_delivery_retries_total sink_deliveries_skipped_total sink_dlq_messages_total dlq_send_failures_total
    handler_duration_seconds periodic_task_runs_total periodic_task_duration_seconds worker_info
"""


# --- 0.11 -------------------------------------------------------------------------------------------------


def test_a_program_of_0_11_runs_with_only_its_import_changed(
    scene: Scene, database: tuple[str, Any], hook: Hook, tmp_path: Path
) -> None:
    """A task per part, a summary per order: fan-out, groups, replacements, an empty order, a cache of sizes."""
    settings = {
        "DK_KAFKA__BROKERS": scene.bootstrap,
        "DK_KAFKA__SOURCE_TOPIC": scene.source,
        "DK_KAFKA__CONSUMER_GROUP": scene.group,
        "DK_SINKS__KAFKA__CHECKED__TOPIC": scene.out,
        "DK_SINKS__MONGO__MAIN__URI": database[0],
        "DK_SINKS__MONGO__MAIN__DATABASE": database[1].name,
        "DK_SINKS__HTTP__SUMMARIES__URL": f"http://127.0.0.1:{hook.server_address[1]}/summaries",
        "DK_DLQ__TOPIC": scene.dlq,
        "DK_CACHE__DB_DIR": str(tmp_path / "cache"),
        "DK_METRICS__PORT": "0",
    }
    orders = {n: [f"part-{n}", "a", "bad"][: n % 4] for n in range(20)} | {20: ["x", "bad-but-mended"]}
    produce(
        scene.bootstrap,
        scene.source,
        [json.dumps({"order": n, "parts": components}) for n, components in orders.items()],
    )
    worker = run(scene, "v0_11", settings)
    scene.until_finished()
    assert worker.terminate(signal.SIGTERM) == 0, worker.stderr

    checked: list[dict[str, Any]] = [
        {"order": n, "part": part} for n, components in orders.items() for part in components if part != "bad"
    ]
    sizes = [{**each, "size": 6 if each["part"] == "bad-but-mended" else len(each["part"])} for each in checked]
    by_part = operator.itemgetter("order", "part")
    assert sorted(values(scene, scene.out), key=by_part) == sorted(sizes, key=by_part)
    assert sorted(database[1]["parts"].find({}, {"_id": False}), key=by_part) == sorted(sizes, key=by_part)
    told = {summary["order"]: summary for team, summary in hook.told if team == "orders"}
    assert len(hook.told) == len(told) == len(orders)
    assert told[0] == {"order": 0, "ok": 0, "bad": 0, "replaced": 0, "total": 0}
    assert told[3] == {"order": 3, "ok": 2, "bad": 1, "replaced": 0, "total": 3}
    assert told[20] == {"order": 20, "ok": 2, "bad": 0, "replaced": 1, "total": 3}
    assert values(scene, scene.dlq) == []
    assert worker.lines("startup_align_done")
    assert worker.lines("config_notice") == []
    assert (tmp_path / "cache").is_dir()


# --- 2.4 --------------------------------------------------------------------------------------------------


@pytest.fixture
def words(scene: Scene, schema: Schema, redis: str, database: tuple[str, Any], hook: Hook) -> dict[str, str]:
    """The variables of the counter: the later prefix and the later places of keys."""
    return {
        "DK_KAFKA__BROKERS": scene.bootstrap,
        "DK_SOURCES__KAFKA__TOPIC": scene.source,
        "DK_SOURCES__KAFKA__CONSUMER_GROUP": scene.group,
        "DK_SINKS__KAFKA__COUNTS__TOPIC": scene.out,
        "DK_SINKS__POSTGRES__MAIN__DSN": schema.dsn,
        "DK_SINKS__MONGO__MAIN__URI": database[0],
        "DK_SINKS__MONGO__MAIN__DATABASE": database[1].name,
        "DK_SINKS__HTTP__HOOK__URL": f"http://127.0.0.1:{hook.server_address[1]}/verdicts",
        "DK_SINKS__REDIS__CACHE__URL": redis,
        "DK_SINKS__REDIS__CACHE__KEY_PREFIX": f"{schema.name}:",
        "DK_DLQ__TOPIC": scene.dlq,
        "DK_METRICS__PORT": "0",
        "DK_CLUSTER": "sets nothing",
        "APP_SHORTEST": "2",
    }


def write_documents(scene: Scene) -> dict[str, int]:
    """Documents with their counts, some empty, two broken, one too long for the table."""
    texts = {f"d{n}": "word " * (n % 7) for n in range(40)}
    texts["long"] = "word " * 60
    broken = {"broken-for-good": "", "broken-for-now": "one two"}
    documents = [{"name": name, "text": text, "urgent": "7" in name} for name, text in texts.items()]
    documents += [{"name": name, "text": text or "gone"} for name, text in broken.items()]
    produce(scene.bootstrap, scene.source, [json.dumps(document) for document in documents] + ["{}"])
    return {name: len(text.split()) for name, text in texts.items()} | {"broken-for-now": 2}


def test_a_program_of_2_4_runs_with_only_its_import_changed(
    scene: Scene, schema: Schema, cache: Redis, database: tuple[str, Any], hook: Hook, words: dict[str, str]
) -> None:
    """Operations of its sinks, moved keys, precomputed and replacement tasks, retries, its own settings."""
    counts = write_documents(scene)
    worker = run(scene, "v2_4", words)
    scene.until_finished()
    worker.until(lambda: (worker.metric("drakkar_periodic_task_runs_total") or 0) > 0, "the periodic method ran")
    metrics = worker.metrics()
    assert worker.terminate(signal.SIGTERM) == 0, worker.stderr

    assert {each["name"]: each["words"] for each in values(scene, scene.out)} == counts
    assert len(values(scene, scene.out)) == len(counts)
    fitting = {name: count for name, count in counts.items() if count < 50}
    assert {(name, n) for name, n in schema.rows("SELECT name, words FROM counts")} == set(fitting.items())
    assert sorted(name for (name,) in schema.rows("SELECT name FROM seen")) == sorted(counts)
    stored = database[1]["counts"].find({}, {"_id": False})
    assert {each["name"]: each["words"] for each in stored} == counts
    assert cache.get(f"{schema.name}:total") == str(sum(counts.values()))
    for name, count in counts.items():
        assert json.loads(str(cache.getdel(f"{schema.name}:{name}"))) == {"name": name, "words": count}
    cache.delete(f"{schema.name}:total")
    assert {verdict["name"] for team, verdict in hook.told if team == "words"} == {*counts, "broken-for-good"}
    told = {verdict["name"]: (verdict["tasks"], verdict["failed"]) for _, verdict in hook.told}
    assert (told["broken-for-good"], told["broken-for-now"], told["d1"]) == ((1, 1), (2, 0), (1, 0))
    (unreadable,), (body,) = dead_letters(scene, scene.dlq, 2)
    assert unreadable.value() == b"{}"
    assert json.loads(body["original_payloads"][0])["data"] == {"name": "long", "words": 60}
    assert f"words_documents_counted_total {len(counts)}.0" in metrics
    assert "drakkar_tasks_precomputed_total 6.0" in metrics
    check_log_of_2_4(worker)


def check_log_of_2_4(worker: Worker) -> None:
    """A notice for each moved key and for what is not there."""
    notices = {line["where"].split()[-1]: line["what"] for line in worker.lines("config_notice")}
    assert notices["sources.kafka.topic"] == "is now kafka.source_topic; its value counts there"
    assert notices["sinks.kafka.counts.flush_timeout_seconds"].startswith("is now")
    assert notices["dlq.on_send_failure"].startswith("is now dlq.on_failure")
    assert {"runtime_health", "debug.port"} <= notices.keys()
    assert worker.lines("recorder_started")
    assert worker.lines("window")
