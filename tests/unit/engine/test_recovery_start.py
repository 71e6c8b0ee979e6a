"""Start of a flow with a recovery store: its identity, and values that its models can't read."""

from __future__ import annotations

from drakkar_flow import StreamFlow, Tumbling
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.recovery_start import identity_of, value_problems
from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.kernel.store_identity import differences
from drakkar_flow.model.state import StateCodec
from drakkar_flow.runtime.recovery.brokers import BrokerState


def test_a_step_may_lose_its_timers_and_keep_its_state() -> None:
    """Timers and watermarks are no steps; a step that is gone is a difference."""
    plain = StreamFlow("f").stateful(lambda n, _: (n, None), key=str, state=int, name="count")
    timed = StreamFlow("f").stateful(
        lambda n, _: (n, None), key=str, state=int, name="count", on_timer=lambda n, _: (n, None)
    )
    windowed = timed.window(Tumbling(60), key=str, add=lambda n, _: n, state=int, name="minutes")
    config, brokers = from_mapping({}), BrokerState("c", {}, {}, {})
    before, now = (identity_of(flow, config, brokers) for flow in (timed, plain))
    assert differences(before, now) == []
    assert [each.name for each in differences(identity_of(windowed, config, brokers), now)] == [
        "state of step window-minutes"
    ]


def test_expired_values_of_an_older_model_are_no_problem() -> None:
    """They are never read; a later one of the same version, which is, is found behind them."""
    flow = StreamFlow("f").stateful(lambda n, _: (n, None), key=str, state=int, name="count", ttl_s=60)
    (step, _), *_ = flow.state_codecs()
    older = StateCodec(str)
    row = PartitionRow(
        2,
        OffsetRanges(),
        {(step, "anna"): older.encode("one", now_ms=1_000), (step, "otto"): older.encode("two", now_ms=50_000)},
    )
    (problem,) = value_problems(flow, [row], now_ms=62_000)
    assert "written by another version of int" in problem.what
    assert "otto" in problem.what
    assert list(value_problems(flow, [row], now_ms=111_000)) == []
