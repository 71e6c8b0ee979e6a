"""R8: programs that misbehave are ended, told of, and leave nothing behind."""

from __future__ import annotations

from collections import Counter

import psutil
import pytest

from support.kafka_io import produce, read_all
from support.processes import programs
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS = 3
MIB = 1024 * 1024
GOOD = ["cat >/dev/null", "exit 0", "exec 0<&-; echo no input read", "exec 1>&-; cat >/dev/null"]
BAD = [
    "cat /dev/zero",  # prints for ever
    "cat /dev/zero >&2",
    "trap '' TERM; while :; do sleep 1; done",  # does not listen
    "sleep 60 & sleep 60",  # has a child that holds the pipes
    "kill -STOP 0",  # stops its own group
    "kill -9 $$",
    "exit 3",
]


@pytest.mark.timeout(180)
def test_hostile_programs_cost_a_dead_letter_each_and_nothing_more(scene: Scene) -> None:
    """Good ones are delivered, bad ones are dead letters; no process, descriptor or memory stays with the worker."""
    settings = {"task_timeout_seconds": 1.0, "kill_grace_s": 1.0, "max_stdout_bytes": MIB, "max_stderr_bytes": MIB}
    worker = scene.start("hostile", {"executor": settings})
    descriptors = []
    for number in range(1, ROUNDS + 1):
        produce(scene.bootstrap, scene.source, GOOD + BAD)
        scene.until_finished()
        until(lambda: not worker.descendants(), 5.0, "its children to end")
        descriptors.append(psutil.Process(worker.pid).num_fds())
        assert len(scene.delivered()) == number * len(GOOD)
    assert not programs(worker.pid)
    assert descriptors[-1] <= descriptors[0] + 2
    assert worker.resident_bytes() < 300 * MIB
    assert worker.terminate() == 0, worker.stderr
    dead = Counter(message.value() for message in read_all(scene.bootstrap, scene.dlq))
    assert dead == Counter({script.encode(): ROUNDS for script in BAD})
