"""Payload checks: refusals that a sink decides without asking its target. Pure; shared with the testing kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drakkar_flow.errors import SinkRejected
from drakkar_flow.kinds.sink import SinkSpec

__all__ = ["refusal_of"]


def refusal_of(spec: SinkSpec, payload: Any, settings: Mapping[str, Any]) -> SinkRejected | None:
    """Return the error with which a sink would refuse a payload by itself, None if it would not.

    Named statements are not looked up.

    >>> from drakkar_flow import KafkaPayload
    >>> from drakkar_flow.sinks.kafka.sink import SPEC
    >>> refusal_of(SPEC, KafkaPayload(data={"price": float("nan")}), {})
    SinkRejected("the payload can't be encoded: ValueError: nan has no JSON form; send None or text")

    Args:
        spec: the kind of the sink.
        payload: the payload to check.
        settings: the settings of the sink, by their names.
    """
    if spec.check_payload is None:
        return None
    try:
        spec.check_payload(payload, settings)
    except SinkRejected as error:
        return error
    except Exception as error:  # a model's own serializers may raise anything
        return SinkRejected(f"the payload can't be encoded: {type(error).__name__}: {error}")
    return None
