"""Identity of a flow's recovery store."""

from __future__ import annotations

from drakkar_flow import StreamFlow, Tumbling
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.recovery_start import identity_of
from drakkar_flow.kernel.store_identity import differences
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
