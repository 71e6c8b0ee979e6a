"""A log that fails, an engine that fails: the flow goes on, or ends with one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.scene import PIPELINES, Scene

pytestmark = pytest.mark.integration


def test_g21_a_full_disk_under_the_log_does_not_hurt_the_flow(scene: Scene) -> None:
    """Everything is delivered and committed, the end is clean, stderr has two lines."""
    worker = scene.start("verbatim", {"logging": {"output": "/dev/full"}})
    worker.until(lambda: worker.get("/readyz")[0] == 200, "it was ready")
    scene.fill(200)
    scene.until_finished()
    assert (worker.metric("drakkar_log_lines_lost_total") or 0) > 0
    assert worker.terminate() == 0, worker.stderr
    assert len(scene.delivered()) == 200
    assert len(worker.stderr.splitlines()) == 2
    assert "No space left on device" in worker.stderr
    assert "panicked" not in worker.stderr


def test_g21_a_worker_with_closed_streams_works(scene: Scene) -> None:
    """As a careless init script starts it: nothing it opens gets the descriptors of stdout and stderr."""
    code = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = ("-m", "drakkar_flow.cli.main", "run", PIPELINES / "verbatim.py", "--config", scene.config())
    worker = scene.launch("-c", code, *command)
    scene.fill(50)
    scene.until_finished()
    for descriptor in (1, 2):
        assert str(Path(f"/proc/{worker.pid}/fd/{descriptor}").readlink()) == "/dev/null"
    assert worker.terminate() == 0
    assert len(scene.delivered()) == 50


@pytest.mark.parametrize("how", ["run", "bytewax"])
def test_g21_an_engine_that_fails_is_one_clear_line_and_exit_code_1(scene: Scene, how: str) -> None:
    """Whatever it raises, and however it was started; nothing is committed."""
    config = scene.config()
    if how == "run":
        worker = scene.start("broken")
    else:
        environment = {"DRAKKAR_CONFIG": str(config), "PYTHONPATH": str(PIPELINES)}
        worker = scene.launch("-m", "bytewax.run", "broken:terse", environment=environment)
    scene.fill(10)
    assert worker.wait(60) == 1
    lines = [json.loads(line) for line in worker.stderr.splitlines()]
    assert [line["event"] for line in lines if line["level"] == "error"] == ["bug", "flow_failed", "drakkar_failed"]
    assert [line["event"] for line in lines if "reason" in line and line["level"] == "error"] == ["flow_failed"]
    assert "the engine is broken" in str(lines)
    assert sum(scene.committed().values()) == 0


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_f22_log_lines_are_utf8_in_any_locale(scene: Scene, locale: dict[str, str]) -> None:
    """One JSON object per line, with what people write."""
    worker = scene.start("verbatim", {"kafka": {"consumer_group": f"{scene.group}-gr\u00fcn"}}, locale)
    worker.until_running()
    assert worker.terminate() == 0
    assert all(json.loads(line)["consumer_group"].endswith("gr\u00fcn") for line in worker.stderr.splitlines())


def test_n10_a_worker_tells_of_its_progress_and_sums_up(scene: Scene) -> None:
    """While it works, and at the end."""
    worker = scene.start("verbatim", {"logging": {"progress_interval_s": 0.5}})
    worker.until_running()
    scene.fill(500)
    scene.until_finished()
    worker.until(lambda: any(line["finished"] == 500 for line in worker.lines("drakkar_progress")), "it told")
    assert worker.terminate() == 0, worker.stderr
    (summary,) = worker.lines("drakkar_summary")
    expected = {"read": 500, "finished": 500, "failed": 0, "dead_letters": 0, "written": {"kafka:out": 500}}
    assert expected.items() <= summary.items()
