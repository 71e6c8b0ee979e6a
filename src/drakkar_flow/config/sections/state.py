"""The `runtime.state` section: where keyed state is stored."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import Section

__all__ = ["StateConfig"]

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class StateConfig(Section):
    """Keyed state. A flow without state ignores this section."""

    store: Literal["auto", "kafka", "recovery", "memory"] = "auto"
    """Place of the state: a compacted topic (`kafka`), or the recovery store (`recovery`, with runtime.recovery).
    `auto` takes the recovery store with runtime.recovery, else the topic. `memory` is for tests: state is lost with
    the assignment of its partition."""
    topic: str = Field(default="")
    """Name of the state topic; empty takes the consumer group, the flow's name and `state`, separated by periods. It is
    created if it is missing."""
    on_mismatch: Literal["fail", "keep", "reset"] = "fail"
    """Start of a partition whose state topic and committed offset disagree, because an offset was set from outside or a
    topic was deleted: the flow stops, or it reads from the offset with its state as it is, or with empty state."""

    @field_validator("topic")
    @classmethod
    def _a_topic_has_a_name(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a topic: use up to 249 of a-z, A-Z, 0-9, '.', '_' and '-'")
        return value
