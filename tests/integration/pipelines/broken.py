"""A flow whose engine fails at its first records: `flow` for our command, `terse` for `python -m bytewax.run`."""

from typing import Any

from verbatim import flow

from drakkar_flow import dataflow
from drakkar_flow.runtime.acknowledgement.commit import Track

__all__ = ["flow", "terse"]


class Panic(BaseException):
    """As libraries in Rust raise it."""


def _fail(*_: Any) -> None:
    raise Panic("the engine is broken")


Track.step = _fail  # type: ignore[method-assign,assignment]  # it breaks the library
terse = dataflow(flow)
