"""State across partitions with real brokers, in one process and in clusters."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from drakkar_flow.cli.main import main
from drakkar_flow.model.state import StateCodec, key_of
from drakkar_flow.runtime.recovery.reading import read_rows
from support.cluster import start_cluster, until_all_run
from support.kafka_io import MakeTopic, headers_of, produce, read_all
from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SIZES = pytest.mark.parametrize("processes", [1, 2, 3])


def fill(scene: Scene, texts: list[str]) -> None:
    """Write texts to the partitions in turn, so that each word is in all of them."""
    produce(scene.bootstrap, scene.source, texts, keys=[str(number) for number in range(len(texts))])


def counts(scene: Scene) -> Counter[str]:
    """The words that the store has counted, all shards together."""
    found: Counter[str] = Counter()
    for shard in read_rows(scene.directory / "store", "words").shards.values():
        for (_, key), value in shard.state.items():
            found[str(key_of(key))] += StateCodec(int).decode(value)
    return found


def stop(workers: list[Worker]) -> None:
    """Stop all by one of them, the last."""
    assert workers[-1].terminate() == 0, workers[-1].stderr
    assert [worker.wait() for worker in workers] == [0] * len(workers), [worker.stderr for worker in workers]


@SIZES
def test_a_word_is_counted_in_all_partitions_together(scene: Scene, processes: int) -> None:
    """Each number is delivered once, to whatever process the word belongs; a stop repeats nothing."""
    texts = [f"word-{number * number % 97} other-{number % 13}" for number in range(1_000)]
    workers = start_cluster(scene, "across", processes)
    fill(scene, texts)
    scene.until_finished()
    stop(workers)
    totals = Counter(word for text in texts for word in text.split())
    assert counts(scene) == totals
    delivered = Counter((message.value() or b"").decode() for message in scene.delivered())
    assert delivered == {f"{word} {n}": 1 for word, times in totals.items() for n in range(1, times + 1)}


@SIZES
def test_mistakes_of_any_kind_become_dead_letters_that_name_their_record(scene: Scene, processes: int) -> None:
    """Before, at and behind the exchange; the other words of their record count."""
    kinds = ("generator", "keyless", "raising", "fatal")
    texts = [f"word-{number % 17} {kinds[number % 4]}-{number}" for number in range(40)]
    workers = start_cluster(scene, "across", processes)
    fill(scene, texts)
    scene.until_finished()
    stop(workers)
    found = counts(scene)
    assert {word: n for word, n in found.items() if word.startswith("word")} == Counter(t.split()[0] for t in texts)
    assert {word for word in found if not word.startswith("word")} == {f"fatal-{n}" for n in range(3, 40, 4)}
    errors: dict[tuple[int, int], str] = {}
    for letter in read_all(scene.bootstrap, scene.dlq, 40):
        headers = {name: value.decode() for name, value in headers_of(letter).items()}
        place = (int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"]))
        errors[place] = headers["__connect.errors.exception.message"]
    expected = ("can't be pickled", "returned None for", "no such word", "a failure of the record")
    records = read_all(scene.bootstrap, scene.source, 40)
    assert len(errors) == len(records) == 40
    for record in records:
        kind = (record.value() or b"").decode().split()[1].split("-")[0]
        assert expected[kinds.index(kind)] in errors[record.partition() or 0, record.offset() or 0]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_that_stops_the_flow_stops_all_without_waiting_for_its_record(scene: Scene, processes: int) -> None:
    """The process that reads the record learns that it will never finish; the drain's budget is a minute longer."""
    settings = {"drain_timeout_s": 150}
    workers = start_cluster(scene, "across", processes, settings, environment={"FAIL": "1"})
    until_all_run(workers)
    fill(scene, [f"word-{number}" for number in range(50)] + [f"fatal-{number}" for number in range(8)])
    assert [worker.wait(60) for worker in workers] == [1] * processes
    assert any("a failure of the record" in worker.stderr for worker in workers)
    assert not [word for word in counts(scene) if word.startswith("fatal")]


def test_parts_of_a_record_that_was_finished_in_part_count_once(scene: Scene) -> None:
    """Kills between the parts of a record, in any process."""
    texts = [" ".join(f"word-{number * n % 31}" for n in range(1, 6)) for number in range(1_500)]
    for part, killed in enumerate((0, 1, 0)):
        workers = start_cluster(scene, "across", 2)
        fill(scene, texts[part * 500 : (part + 1) * 500])
        workers[0].until(lambda: sum(scene.committed().values()) > part * 500 + 100, "commits")  # noqa: B023 - called here
        workers[killed].kill()
        assert workers[1 - killed].wait() == 1
    workers = start_cluster(scene, "across", 3)
    scene.until_finished()
    stop(workers)
    assert counts(scene) == Counter(word for text in texts for word in text.split())


def test_the_command_shows_whole_flow_keys(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of partitions and of shards: inspect, check, export, and the keys themselves."""
    (worker,) = start_cluster(scene, "across", 1)
    fill(scene, ["anna otto", "anna"])
    scene.until_finished()
    stop([worker])
    store = str(scene.directory / "store")

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main([*arguments[:2], store, *arguments[2:]])
        assert not caught.value.code
        return capsys.readouterr().out

    assert "64 rows with state across partitions: 2 keys" in run("recovery", "inspect")
    report = json.loads(run("recovery", "inspect", "--json"))
    assert len(report["shards"]) == 64
    assert run("recovery", "check", "--offline").endswith("ok\n")
    lines = [json.loads(line) for line in run("recovery", "export").splitlines()]
    values = {line["key"]: line["value"] for line in lines if line["type"] == "state"}
    assert values == {"anna": 2, "otto": 1}
    assert [json.loads(line) for line in run("state", "export").splitlines()] == [
        line for line in lines if line["type"] == "state"
    ]
    got = json.loads(run("state", "get", "anna"))
    assert got == {"type": "state", "shard": "shard-55", "step": "stateful-count", "key": "anna", "value": 2}
    assert run("state", "list", "--prefix", "an") == "shard-55  stateful-count  anna\n"


def test_state_per_partition_is_not_taken_for_state_across_partitions(scene: Scene) -> None:
    """The same step, once with and once without: the store is refused."""
    (scene.directory / "one.py").write_text(
        "from drakkar_flow import *\n"
        "def count(n, word): return (n or 0) + 1, word\n"
        'flow = StreamFlow("words").decode(str).stateful(count, key=str, state=int).route(KafkaSink("out"))\n'
    )
    (worker,) = start_cluster(scene, "across", 1)
    worker.until_running()
    stop([worker])
    (other,) = start_cluster(scene, str(scene.directory / "one"), 1)
    assert other.wait() == 2
    assert "another state of step stateful-count 'across partitions' in the store, 'kept' now" in other.stderr


def test_a_consumer_group_is_refused(scene: Scene) -> None:
    """With the setting that is missing."""
    worker = scene.start("across")
    assert worker.wait() == 2
    assert (
        "runtime.recovery: stateful-count keeps state across partitions, which a consumer group can't" in worker.stderr
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_two_topics_are_joined(scene: Scene, make_topic: MakeTopic, processes: int) -> None:
    """With other numbers of partitions, and kills in between."""
    other = make_topic(3)
    environment = {"ORDERS": scene.source, "PAYMENTS": other}
    workers: list[Worker] = []

    def start() -> list[Worker]:
        kafka = {"source_topics": [scene.source, other]}
        return start_cluster(scene, "shop", processes, sections={"kafka": kafka}, environment=environment)

    orders = [json.dumps({"id": number}) for number in range(300)]
    payments = [json.dumps({"order": number % 300, "cents": number}) for number in range(600)]
    produce(scene.bootstrap, scene.source, orders, keys=[str(number) for number in range(300)])
    workers = start()
    workers[0].until(lambda: sum(scene.committed().values()) > 50, "commits")
    produce(scene.bootstrap, other, payments, keys=[str(number * 7) for number in range(600)])
    workers[0].kill()
    for worker in workers[1:]:
        assert worker.wait() == 1
    workers = start()
    wanted = {f"{number % 300} {number}" for number in range(600)}
    until(lambda: {(m.value() or b"").decode() for m in scene.delivered()} >= wanted, 60, "all pairs")
    stop(workers)
    assert {(message.value() or b"").decode() for message in scene.delivered()} == wanted
