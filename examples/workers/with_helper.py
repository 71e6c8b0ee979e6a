#!/usr/bin/env python3
"""A worker by the helper: capitals, three lines."""

from drakkar_flow.worker import Task, serve


def capitals(task: Task) -> str:
    """Answer the input in capitals."""
    return task.stdin.upper()


serve(capitals)
