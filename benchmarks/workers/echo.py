"""A long-lived child in Python that gives back what it gets, several tasks at a time."""

from __future__ import annotations

from drakkar_flow.worker import Task, serve


def echo(task: Task) -> str:
    return task.stdin


if __name__ == "__main__":
    serve(echo, max_in_flight=256)
