"""Workers on the test's own loop: everything happens on one thread, step by step."""

from __future__ import annotations

from drakkar_flow.testing.conformance.one_step import SameThreadLoop

__all__ = ["SameThreadLoop"]
