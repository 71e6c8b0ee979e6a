"""G21: what the engine's own functions raise ends the flow with a reason, and not in a Rust panic."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import StreamFlow
from drakkar_flow.runtime.acknowledgement.commit import CommitSink, Track
from drakkar_flow.runtime.source import RecordSource
from drakkar_flow.runtime.steps.route import RouteStep
from drakkar_flow.testing import run_flow


class Panic(BaseException):
    """As libraries in Rust raise it."""


ERRORS = [OSError(28, "No space left on device"), Panic("rust"), SystemExit(3)]


def _built(owner: Any, method: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a method of what `owner.build` gives raise."""
    build = owner.build

    def broken(self: object, *args: object) -> Any:
        part = build(self, *args)

        def fail(*_: object) -> None:
            raise error

        setattr(part, method, fail)
        return part

    monkeypatch.setattr(owner, "build", broken)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["read", "route", "track", "write"])
def test_g21_an_error_of_the_engine_ends_the_flow_with_its_reason(
    where: str, error: OSError | SystemExit | Panic, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The kit says what broke, and nothing is printed by Rust."""

    def fail(*_: object) -> None:
        raise error

    match where:
        case "read":
            _built(RecordSource, "next_batch", error, monkeypatch)
        case "route":
            monkeypatch.setattr(RouteStep, "accept", fail)
        case "track":
            monkeypatch.setattr(Track, "step", fail)
        case "write":
            _built(CommitSink, "write_batch", error, monkeypatch)
    with pytest.raises(AssertionError, match=f"the flow broke: {type(error).__name__}"):
        run_flow(StreamFlow("bad").map(lambda payload: payload).route(), [1, 2, 3])
    assert "panicked" not in capfd.readouterr().err
