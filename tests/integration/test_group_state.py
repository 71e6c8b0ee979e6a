"""State in group mode with real brokers: restarts, rebalances, and everything that makes offset and state disagree."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from drakkar_flow.kernel.state_messages import Position
from support.kafka_io import add_partitions, create_topic, delete_topics, produce
from support.scene import PIPELINES, Scene
from support.state_topic import OpenTransaction, create_state_topic, numbers, set_offsets, state_of
from support.until import until
from support.worker import Worker

pytestmark = pytest.mark.integration

USERS = [f"user-{number * number % 23}" for number in range(600)]


def visit(scene: Scene, users: list[str]) -> None:
    """Write one record per visit."""
    produce(scene.bootstrap, scene.source, users, keys=users)


def run_through(scene: Scene, **runtime: Any) -> Worker:
    """Start a worker, let it finish everything, and stop it."""
    worker = scene.start("visits", {"runtime": runtime})
    worker.until_running()
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    return worker


def ends_with(worker: Worker, *texts: str) -> None:
    """Wait for the end of a worker that fails, and check its reason."""
    assert worker.wait(60) == 1, worker.stderr
    for text in texts:
        assert text in worker.stderr, worker.stderr


def test_a_second_worker_takes_over_partitions_with_their_state(scene: Scene) -> None:
    """Each visit of a user has one number, whoever counted the ones before."""
    first = scene.start("visits")
    visit(scene, USERS[:300])
    scene.until_finished()
    second = scene.start("visits")
    second.until(lambda: second.lines("state_restored"), "partitions moved")
    visit(scene, USERS[300:])
    scene.until_finished()
    assert first.metric("drakkar_state_keys") != 0
    assert (second.metric("drakkar_state_restored_keys_total") or 0) > 0
    assert first.terminate() == second.terminate() == 0
    wanted = {f"{user} {n}" for user, times in Counter(USERS).items() for n in range(1, times + 1)}
    assert Counter((each.value() or b"").decode() for each in scene.delivered()) == dict.fromkeys(wanted, 1)
    assert numbers(scene, "visits") == Counter(USERS)


def test_kills_miscount_no_transfer_that_changes_two_keys(scene: Scene) -> None:
    """Both accounts of a record change, or none: the sum is 0 after each kill. The balances are exact at the end."""
    moved = [(f"a{n % 7}", f"a{(n * 5 + 3) % 7}") for n in range(1_500)]
    settings = {"executor": {"window_size": 5}}
    for part in range(5):
        chosen = moved[part * 300 : (part + 1) * 300]
        produce(scene.bootstrap, scene.source, [f"{one} {other}" for one, other in chosen], partition=part % 2)
        before = sum(scene.committed().values())
        worker = scene.start("transfers", settings)
        worker.until(lambda before=before: sum(scene.committed().values()) > before + 60, "commits")  # type: ignore[misc]  # mypy knows no lambda with a default here
        worker.kill()
        assert sum(sum(numbers(scene, "Transfers", number).values()) for number in range(2)) == 0
    worker = scene.start("transfers", settings)
    scene.until_finished()
    assert worker.terminate() == 0
    for partition in range(2):
        balance: dict[object, int] = {}
        for part in range(partition, 5, 2):
            for source, target in moved[part * 300 : (part + 1) * 300]:
                balance[source] = balance.get(source, 0) - 1
                balance[target] = balance.get(target, 0) + 1
        assert numbers(scene, "Transfers", partition) == balance


@pytest.mark.parametrize(("policy", "counted"), [("keep", 2), ("reset", 1)])
def test_an_offset_that_was_set_from_outside_is_a_decision(scene: Scene, policy: str, counted: int) -> None:
    """Refused first; then the state stays and records count again, or it begins empty. Then all is normal again."""
    visit(scene, USERS)
    run_through(scene)
    set_offsets(scene, dict.fromkeys(scene.committed(), 0))
    refused = scene.start("visits")
    ends_with(refused, "but its state is that of offset", "another client set the offset", "on_mismatch: keep")
    worker = run_through(scene, state={"on_mismatch": policy})
    assert worker.lines("state_start")
    assert numbers(scene, "visits") == {user: counted * times for user, times in Counter(USERS).items()}
    visit(scene, USERS[:10])
    run_through(scene)
    assert sum(numbers(scene, "visits").values()) == counted * len(USERS) + 10


def test_a_deleted_state_topic_ends_the_flow_and_the_next_start_is_refused(scene: Scene) -> None:
    """The state is lost: nothing goes on with empty state by itself."""
    visit(scene, USERS)
    worker = scene.start("visits", {"kafka": {"metadata_refresh_s": 0.5}})
    scene.until_finished()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    delete_topics(admin, [f"{scene.group}.visits.state"])
    visit(scene, USERS[:50])
    ends_with(worker, f"{scene.group}.visits.state", "deleted")
    ends_with(scene.start("visits"), "the state topic has no position: its state is lost", "on_mismatch: reset")
    run_through(scene, state={"on_mismatch": "reset"})
    assert sum(numbers(scene, "visits").values()) == 50


def test_a_recreated_source_topic_ends_the_flow_and_the_next_start_decides(scene: Scene) -> None:
    """The records of another log are not counted on top of the former ones."""
    visit(scene, USERS)
    worker = scene.start("visits", {"kafka": {"metadata_refresh_s": 0.5}})
    scene.until_finished()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    delete_topics(admin, [scene.source])
    until(lambda: scene.source not in admin.list_topics(timeout=5).topics, what="the topic to go")
    create_topic(admin, scene.source, scene.partitions)
    visit(scene, USERS[:50])
    ends_with(worker, scene.source)
    ends_with(scene.start("visits"), "deleted and created again, but the state is that of the former topic")
    run_through(scene, state={"on_mismatch": "reset"})
    assert numbers(scene, "visits") == Counter(USERS[:50])


@pytest.mark.parametrize("committed", [True, False])
def test_the_open_transaction_of_a_dead_owner_is_waited_for(scene: Scene, committed: bool) -> None:
    """Its values and its offset count together or not at all: decided later, or aborted by the brokers."""
    users = ["anna"] * 20
    produce(scene.bootstrap, scene.source, users, partition=0)
    run_through(scene)
    assert state_of(scene, "visits")[scene.source, 0].offset == 20
    produce(scene.bootstrap, scene.source, users, partition=0)
    written = Position(group=scene.group, flow="visits", topic_id=_topic_id(scene), offset=30)
    timeout_s = 60 if committed else 10
    transaction = OpenTransaction(scene, "visits", "stateful-count", {"anna": 30}, written, timeout_s)
    worker = scene.start("visits")
    if committed:
        worker.until(lambda: "left a transaction open" in worker.stderr, "it waited")
        assert not worker.lines("state_restored")
        transaction.commit()
    scene.until_finished()
    assert worker.terminate() == 0
    assert numbers(scene, "visits") == {"anna": 40}
    delivered = {(each.value() or b"").decode() for each in scene.delivered()}
    skipped = set(range(21, 31)) if committed else set()
    assert delivered == {f"anna {n}" for n in range(1, 41) if n not in skipped}


def test_partitions_that_leave_in_the_middle_of_their_restore_are_exact_elsewhere(scene: Scene) -> None:
    """A large state is restored; more members join and leave meanwhile."""
    users = [f"user-{number % 20_000}" for number in range(40_000)]
    visit(scene, users)
    fast = {"runtime": {"max_in_flight_records": 10_000}}
    first = scene.start("visits", fast)
    scene.until_finished(110)
    second = scene.start("visits", fast)
    third = scene.start("visits", fast)
    third.until_running()
    assert third.terminate() == 0, third.stderr
    second.until(lambda: second.lines("state_restored"), "it restored")
    second.kill()
    visit(scene, users[:500])
    scene.until_finished()
    assert first.terminate() == 0
    assert numbers(scene, "visits") == Counter([*users, *users[:500]])


def test_a_member_that_hangs_beyond_its_session_commits_nothing_any_more(scene: Scene) -> None:
    """Its partitions go to the other one; what it held in flight or in a transaction is refused."""
    first, second = scene.start("visits"), scene.start("visits")
    for member in (first, second):
        member.until(lambda member=member: member.lines("state_restored"), "it has partitions")  # type: ignore[misc]  # mypy knows no lambda with a default here
    visit(scene, USERS[:300])
    scene.until_finished()
    until(lambda: first.by_partition("drakkar_state_keys"), 30, "partitions of the first one")
    visit(scene, USERS[300:400])
    first.send(signal.SIGSTOP)
    visit(scene, USERS[400:])
    scene.until_finished()  # by the second alone, after the session of the first
    first.send(signal.SIGCONT)
    first.until(lambda: first.lines("partitions_lost"), "it noticed")
    visit(scene, USERS[:100])
    scene.until_finished()
    assert first.terminate() == second.terminate() == 0
    assert numbers(scene, "visits") == Counter([*USERS, *USERS[:100]])


def test_a_static_member_that_is_killed_goes_on_at_once(scene: Scene) -> None:
    """Its own open transaction ends with its next start, which has the same transactional id."""
    settings = {"kafka": {"group_instance_id": "one"}}
    for part in range(3):
        worker = scene.start("visits", settings)
        visit(scene, USERS[part * 200 : (part + 1) * 200])
        worker.until(lambda part=part: sum(scene.committed().values()) > part * 200 + 50, "commits")  # type: ignore[misc]  # as above
        worker.kill()
    worker = scene.start("visits", settings)
    worker.until_running()
    scene.until_finished()
    assert worker.terminate() == 0
    assert numbers(scene, "visits") == Counter(USERS)


def test_partitions_that_are_added_have_a_place_in_the_state_topic(scene: Scene) -> None:
    """While the flow runs and at its start; the warning says that keys move."""
    visit(scene, USERS[:50])
    worker = scene.start("visits", {"kafka": {"metadata_refresh_s": 0.5}})
    scene.until_finished()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    add_partitions(admin, scene.source, 6)
    produce(scene.bootstrap, scene.source, ["new"] * 10, partition=5)
    worker.until(lambda: scene.committed().get(5) == 10, "the new partition")
    assert worker.terminate() == 0
    add_partitions(admin, scene.source, 7)
    worker = run_through(scene)
    (notice,) = worker.lines("state_topic_notice")
    assert "keys that move to another partition have no state there" in notice["what"]
    assert numbers(scene, "visits") == Counter([*USERS[:50], *["new"] * 10])


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_state_topic_that_is_not_compacted_is_refused(scene: Scene, policy: str) -> None:
    """The brokers would delete state."""
    create_state_topic(scene, f"{scene.group}.visits.state", **{"cleanup.policy": policy})
    worker = scene.start("visits")
    assert worker.wait(30) == 2
    assert f"has cleanup.policy={policy}: the brokers would delete state" in worker.stderr


def test_a_state_topic_of_another_flow_is_refused(scene: Scene) -> None:
    """Positions name their owner."""
    visit(scene, USERS[:10])
    run_through(scene)
    worker = scene.start("windows", {"runtime": {"state": {"topic": f"{scene.group}.visits.state"}}})
    ends_with(worker, "belongs to flow 'visits'", "set runtime.state.topic to another topic")


def test_a_value_that_is_too_large_ends_the_flow_and_names_its_key(scene: Scene) -> None:
    """Its record stays uncommitted."""
    create_state_topic(
        scene, f"{scene.group}.pages.state", **{"cleanup.policy": "compact", "max.message.bytes": "20000"}
    )
    produce(scene.bootstrap, scene.source, ["small", "x" * 100_000], keys=["anna", "otto"])
    worker = scene.start("pages")
    ends_with(worker, "key b'otto'", "are too many for the state topic", "raise its max.message.bytes")
    assert sum(scene.committed().values()) <= 1


def test_state_in_memory_is_lost_with_the_process_and_says_so(scene: Scene) -> None:
    """For tests."""
    visit(scene, ["anna"] * 5)
    worker = run_through(scene, state={"store": "memory"})
    assert worker.lines("state_in_memory")
    visit(scene, ["anna"])
    run_through(scene, state={"store": "memory"})
    delivered = sorted((each.value() or b"").decode() for each in scene.delivered())
    assert delivered == [f"anna {n}" for n in (1, 1, 2, 3, 4, 5)]


def test_latest_begins_at_the_end_and_keeps_its_state(scene: Scene) -> None:
    """The offsets of a first start have no position yet: that is no mismatch."""
    settings = {"kafka": {"auto_offset_reset": "latest"}}
    visit(scene, ["old"] * 10)
    worker = scene.start("visits", settings)
    worker.until(lambda: len(worker.lines("state_restored")) == 4, "it was restored")
    visit(scene, USERS[:20])
    scene.until_finished()
    assert worker.terminate() == 0
    visit(scene, USERS[20:40])
    worker = scene.start("visits", settings)
    scene.until_finished()
    assert worker.terminate() == 0
    assert numbers(scene, "visits") == Counter(USERS[:40])


def test_the_command_reads_state_while_workers_go_on(scene: Scene) -> None:
    """Get, list and export read the topic without joining the group."""
    visit(scene, ["anna", "otto", "anna"])
    worker = scene.start("visits")
    scene.until_finished()
    found = json.loads(_command(scene, "state", "get", "anna"))
    assert (found["step"], found["key"], found["value"]) == ("stateful-count", "anna", 2)
    assert "otto" in _command(scene, "state", "list")
    assert len(_command(scene, "state", "export").splitlines()) == 2
    assert not worker.lines("partitions_revoked")
    assert worker.terminate() == 0


def test_check_asks_for_the_state_topic_and_the_transactional_id(scene: Scene) -> None:
    """Both are parts of its report; nothing is created."""
    text = _command(scene, "check")
    assert f"ok     state topic {scene.group}.visits.state" in text
    assert f"{scene.group}.visits.state" not in AdminClient({"bootstrap.servers": scene.bootstrap}).list_topics().topics


def _command(scene: Scene, *arguments: str) -> str:
    """Run `drakkar-flow` for the flow, and return what it printed."""
    name, *rest = arguments
    words = [name, *rest[:1], str(PIPELINES / "visits.py"), *rest[1:], "--config", str(scene.config())]
    command = [sys.executable, "-m", "drakkar_flow.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=scene.directory)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _topic_id(scene: Scene) -> str:
    from confluent_kafka import TopicCollection

    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    return str(admin.describe_topics(TopicCollection([scene.source]))[scene.source].result(30).topic_id)
