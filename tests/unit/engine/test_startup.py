"""A start that waits: it says for what, once."""

from __future__ import annotations

import socket

import pytest

from drakkar_flow.config.sections.kafka import KafkaConfig
from drakkar_flow.engine import startup
from drakkar_flow.errors import Problem, StartupError


@pytest.fixture
def heard() -> list[str]:
    """What was said of those that can't be reached yet."""
    return []


@pytest.mark.anyio
async def test_a_sink_that_is_down_is_named_once_and_tried_again(
    heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the log sees what the start waits for, before its time is over."""
    monkeypatch.setattr(startup, "AGAIN_S", 0.0)
    answers = iter([True, True, False])

    async def connect() -> None:
        if next(answers):
            raise StartupError([Problem("sinks.redis.main.url", "Redis is down")], exit_code=1)

    await startup.connect_within(connect, 60.0, lambda problem: heard.append(str(problem)))
    assert heard == ["sinks.redis.main.url: Redis is down"]
    assert list(answers) == []


def test_brokers_that_do_not_answer_are_named_once_and_asked_again(
    heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when the time is over, the start fails."""
    monkeypatch.setattr(startup, "ASK_S", 0.05)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        kafka = KafkaConfig(brokers=address, startup_timeout_s=0.5)
        with pytest.raises(StartupError, match=f"no broker answers at {address} within"):
            startup.check_source(kafka, lambda problem: heard.append(str(problem)))
    (said,) = heard
    assert said.startswith(f"kafka.brokers: no broker answers at {address}: ")
