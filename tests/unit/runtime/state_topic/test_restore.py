"""Restorer: each partition that is asked for gets its state, or the reason why it must not be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.recovery_start import StartRefused
from drakkar_flow.kernel.state_messages import Position, position_key, value_key
from drakkar_flow.kernel.state_start import StatePolicy
from drakkar_flow.model.state import StateCodec
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.state_topic import restore
from drakkar_flow.runtime.state_topic.reading import Contents
from drakkar_flow.runtime.state_topic.restore import Restored, Restorer, StateOwner
from drakkar_flow.runtime.state_topic.topic import StateTopic
from support.until import until

AT = ("in", 0)
STEP = "stateful-count"
POSITION = Position(group="g", flow="f", topic_id="t", offset=7)
MANY = 50_000
Policy = Literal["fail", "keep", "reset"]


class Brokers:
    """The state topic has `values`; the group's offset is `committed`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.committed = POSITION.offset
        self.values = {position_key("in"): POSITION.encode()}
        self.bug: Exception | None = None
        self.moves: list[int] = []
        """Offsets that another member commits between the requests for the group's offsets and for the state."""
        client = SimpleNamespace(committed=lambda asked, _s: [KafkaPartition(*AT, self.committed) for _ in asked])
        answers: dict[str, Any] = {
            "reading_client": client,
            "AdminClient": None,
            "topic_ids_of": {"in": "t"},
        }
        for name, answer in answers.items():
            monkeypatch.setattr(restore, name, lambda *_args, answer=answer: answer)
        monkeypatch.setattr(restore, "OffsetSpec", SimpleNamespace(earliest=lambda: 0, latest=lambda: 100))
        monkeypatch.setattr(restore, "offsets_of", lambda _admin, _at, spec: {AT: spec, ("state", 0): spec})
        monkeypatch.setattr(restore, "destroy_in_background", lambda _clients: None)
        monkeypatch.setattr(restore, "read_partitions", self._read)

    def store(self, key: str, value: bytes, step: str = STEP) -> None:
        """Write a value."""
        self.values[value_key("in", (step, key))] = value

    def _read(self, *_args: object) -> Contents:
        if self.bug is not None:
            raise self.bug
        if self.moves:
            self.committed = self.moves.pop()
            self.values[position_key("in")] = msgspec.structs.replace(POSITION, offset=self.committed).encode()
        return Contents({0: self.values}, len(self.values))


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    """They answer at once."""
    monkeypatch.setattr(StateTopic, "grow", lambda *_args: None)
    return Brokers(monkeypatch)


@pytest.fixture
def restored() -> Iterator[Callable[..., Restored]]:
    """Returns the restored partition."""
    made: list[Restorer] = []

    def restored(codec: StateCodec, on_mismatch: Policy = "fail") -> Restored:
        owner = StateOwner("g", "f", {STEP: codec})
        restorer = Restorer(StateTopic({}, "state", ["in"]), owner, StatePolicy(on_mismatch), Bus())
        made.append(restorer)
        restorer.start()
        restorer.begin([AT])
        (found,) = until(restorer.done)
        return found

    yield restored
    for restorer in made:
        restorer.close()


def test_state_is_restored_with_its_position(brokers: Brokers, restored: Callable[..., Restored]) -> None:
    """The normal case."""
    value = StateCodec(int).encode(3, now_ms=0)
    brokers.store("anna", value)
    found = restored(StateCodec(int))
    assert not isinstance(found.start, StartRefused)
    assert (found.start.offset, found.start.keeps_state, found.state) == (7, True, {(STEP, "anna"): value})


def test_a_value_that_the_model_refuses_is_named(brokers: Brokers, restored: Callable[..., Restored]) -> None:
    """For example because it is damaged, or was written by another version of the model."""
    brokers.store("anna", b"damaged")
    found = restored(StateCodec(int))
    assert isinstance(found.start, StartRefused)
    assert f"in-0: state of {STEP}, key 'anna': the value can't be read as int" in found.start.what


def test_an_expired_value_of_an_older_model_is_no_reason(brokers: Brokers, restored: Callable[..., Restored]) -> None:
    """It is never read, as in fixed mode."""
    brokers.store("anna", StateCodec(str).encode("one", now_ms=int(time.time() * 1000) - 61_000))
    assert not isinstance(restored(StateCodec(int, ttl_s=60)).start, StartRefused)
    assert isinstance(restored(StateCodec(int, ttl_s=600)).start, StartRefused)


def test_the_state_of_many_keys_is_dropped_in_one_pass(brokers: Brokers, restored: Callable[..., Restored]) -> None:
    """All of them are removed from the state topic. A look for each key among all others would take minutes."""
    for number in range(MANY):
        brokers.store(f"user {number}", b"")
    brokers.committed = 5
    found = restored(StateCodec(int), "reset")
    assert (len(found.removed), found.state) == (MANY, {})


def test_values_of_a_step_that_is_gone_are_kept_or_deleted_as_told(
    brokers: Brokers, restored: Callable[..., Restored]
) -> None:
    """By default they end the flow."""
    brokers.store("anna", b"", step="stateful-former")
    refused = restored(StateCodec(int)).start
    assert isinstance(refused, StartRefused)
    assert "has values of stateful-former, which the flow lacks" in refused.what
    assert len(restored(StateCodec(int), "keep").state) == 1
    deleted = restored(StateCodec(int), "reset")
    assert (set(deleted.removed), deleted.state) == ({("stateful-former", "anna")}, {})


def test_a_commit_of_another_member_meanwhile_is_no_disagreement(
    brokers: Brokers, restored: Callable[..., Restored]
) -> None:
    """A member that was suspended in a restore has lost the partition: it must not end because of it."""
    brokers.moves = [9]
    found = restored(StateCodec(int))
    assert not isinstance(found.start, StartRefused)
    assert (found.start.offset, found.start.warning) == (9, "")


def test_a_bug_ends_the_flow_instead_of_the_thread(brokers: Brokers, restored: Callable[..., Restored]) -> None:
    """Without an answer the partition would never be read, and nothing would say why."""
    brokers.bug = KeyError("surprise")
    found = restored(StateCodec(int))
    assert isinstance(found.start, StartRefused)
    assert "the state topic 'state' can't be restored: KeyError: 'surprise'" in found.start.what
