#!/usr/bin/env python3
"""A warm child: capitals; a record that says so fails, once or always."""

from drakkar_flow.worker import Task, serve

_seen: set[str] = set()


def capitals(task: Task) -> str:
    """Answer the input in capitals."""
    text = task.stdin
    if text.endswith("999"):
        raise ValueError("it always fails")
    if text.endswith("50") and text not in _seen:
        _seen.add(text)
        raise ValueError("it fails once")
    _seen.discard(text)
    return text.upper()


if __name__ == "__main__":
    serve(capitals)
