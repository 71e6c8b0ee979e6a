"""Several executors as one: sums for the intake, one close, and a start that tells all problems."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.executors import make_executors, program_configs
from drakkar_flow.errors import StartupError
from drakkar_flow.executor.named import NamedExecutors
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus

pytestmark = pytest.mark.anyio


async def test_n6_each_has_its_own_slots_and_all_are_closed(until: Any) -> None:
    """The sums are the intake's; the gauges tell them apart."""
    config = from_mapping(
        {
            "executor": {"binary_path": "/bin/sleep", "max_executors": 1},
            "executors": {"two": {"max_executors": 2, "binary_path": "/bin/sleep"}},
        }
    )
    executors = make_executors(program_configs(config, None), Bus())
    assert isinstance(executors, NamedExecutors)
    await executors.start()
    ended: list[Any] = []
    for name in ["", "", "two", "two", "two"]:
        executors.submit(ExecutorTask(task_id="t", source_offsets=[], args=["100"], executor=name), 0, ended.append)
    await until(lambda: executors.statistics().running == 3)
    by_name = {name: (now.running, now.waiting, now.slots) for name, now in executors.by_name().items()}
    assert by_name == {"": (1, 1, 1), "two": (2, 1, 2)}
    assert executors.statistics()[:3] == (3, 2, 3)
    await executors.close()
    assert ended == [None] * 5
    await executors.close()


async def test_n6_a_start_that_fails_names_the_executors_section() -> None:
    """All problems at once; those that did start are closed."""
    config = from_mapping(
        {
            "executor": {
                "mode": "persistent",
                "binary_path": "cat",
                "persistent": {"protocol": "lines", "children": 1},
            },
            "executors": {
                "one": {"binary_path": "no-such-program"},
                "two": {"mode": "persistent"},
                "three": {"cwd": "/no/such/directory"},
            },
        }
    )
    executors = make_executors(program_configs(config, None), Bus())
    with pytest.raises(StartupError) as caught:
        await executors.start()
    assert [problem.where for problem in caught.value.problems] == [
        "executors.one.binary_path",
        "executors.two.binary_path",
        "executors.three.cwd",
    ]
    assert caught.value.exit_code == 2
    assert executors.statistics().running == 0
