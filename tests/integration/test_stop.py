"""R2: a worker that is told to stop finishes what it has begun, commits it, and says how that went."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from support.kafka_io import produce
from support.scene import PIPELINES, Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS = 5
BUDGET_S = 20.0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("pipeline", ["precomputed", "children"])
def test_restarts_under_load_deliver_each_record_once(scene: Scene, pipeline: str, number: int) -> None:
    """Five stops in the middle of the stream: exit 0 within the budget, nothing lost, nothing twice."""
    with scene.feeding() as feeder:
        for _ in range(ROUNDS):
            before = sum(scene.committed().values())
            worker = scene.start(pipeline)
            worker.until(lambda before=before: sum(scene.committed().values()) > before, "it committed")  # type: ignore[misc]  # mypy knows no lambda with a default here
            assert worker.terminate(number, BUDGET_S) == 0, worker.stderr
    last = scene.start(pipeline)
    scene.until_finished()
    assert last.terminate(number, BUDGET_S) == 0
    assert scene.check_delivered(feeder.count) == 0


def _by_command(scene: Scene) -> tuple[Worker, Callable[[], None]]:
    worker = scene.start("precomputed")
    return worker, lambda: worker.send(signal.SIGTERM)


def _by_bytewax(scene: Scene) -> tuple[Worker, Callable[[], None]]:
    environment = {"DRAKKAR_CONFIG": str(scene.config()), "PYTHONPATH": str(PIPELINES)}
    worker = scene.launch("-m", "bytewax.run", "terse", environment=environment)
    return worker, lambda: worker.send(signal.SIGTERM)


def _by_program(scene: Scene) -> tuple[Worker, Callable[[], None]]:
    stop_file = scene.directory / "stop"
    worker = scene.launch(PIPELINES / "embedded.py", scene.config(), stop_file)
    return worker, stop_file.touch


@pytest.mark.parametrize("way", [_by_command, _by_bytewax, _by_program], ids=["command", "bytewax", "program"])
def test_d30_every_way_to_run_drains_and_ends_with_0(
    scene: Scene, way: Callable[[Scene], tuple[Worker, Callable[[], None]]]
) -> None:
    """`drakkar-flow run`, `bytewax.run` and a program of one's own end alike: all delivered once, all committed."""
    with scene.feeding() as feeder:
        worker, stop = way(scene)
        worker.until(lambda: sum(scene.committed().values()) > 200, "it committed")
        stop()
        assert worker.wait(BUDGET_S) == 0, worker.stderr
    worker, stop = way(scene) if way is not _by_program else _by_command(scene)
    scene.until_finished()
    stop()
    assert worker.wait(BUDGET_S) == 0, worker.stderr
    assert scene.check_delivered(feeder.count) == 0


def _sleeping(scene: Scene, overrides: dict[str, dict[str, object]] | None = None) -> Worker:
    scene.fill(4)
    worker = scene.start("stubborn", overrides)
    worker.until(lambda: len(worker.descendants()) >= 8, "the programs and their children ran")
    return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_aborts_and_leaves_no_children(scene: Scene, number: int) -> None:
    """Who asks twice does not wait for the drain: exit 130, children and grandchildren dead, nothing committed."""
    worker = _sleeping(scene)
    worker.send(number)
    worker.until(lambda: '"drakkar_draining"' in worker.stderr, "it drained")
    assert worker.terminate(number, 5.0) == 130
    until(lambda: not worker.descendants(), 5.0, "its children to end")
    assert scene.committed() == {}


def test_programs_end_with_a_worker_whose_event_loop_is_blocked(scene: Scene) -> None:
    """Nothing of it can be closed then; it ends with 130 all the same, and its programs with it."""
    scene.fill(4)
    worker = scene.start("blocking")
    worker.until(lambda: len(worker.descendants()) == 4, "its programs ran")
    produce(scene.bootstrap, scene.source, ["block"])
    worker.until(lambda: "blocked" in worker.stdout, "the loop was blocked")
    until(lambda: worker.exit_code is not None or worker.send(signal.SIGTERM), 20.0, "the end of an abort")  # type: ignore[func-returns-value]  # it returns nothing, so the wait goes on
    assert worker.exit_code == 130
    until(lambda: not worker.descendants(), 5.0, "its programs to end")


def test_a_drain_that_runs_out_of_time_ends_with_1(scene: Scene) -> None:
    """Work that outlasts the budget is killed and not committed; the worker says how much was left."""
    worker = _sleeping(scene, {"runtime": {"drain_timeout_s": 1.0}})
    assert worker.terminate(timeout_s=10.0) == 1
    assert "4 records unfinished" in worker.stderr
    until(lambda: not worker.descendants(), 5.0, "its children to end")
    assert scene.committed() == {}


def test_an_error_that_must_stop_the_flow_ends_it_with_1(scene: Scene) -> None:
    """With `on_decode_error: fail` the first bad record ends the worker; its offset is not committed."""
    produce(scene.bootstrap, scene.source, ["1", "2", "poison", "4"], partition=0)
    worker = scene.start("decoding", {"runtime": {"on_decode_error": "fail"}})
    assert worker.wait(BUDGET_S) == 1
    assert "Traceback" not in worker.stderr
    assert scene.committed().get(0, 0) <= 2


def test_bytewax_run_ends_with_130_after_a_second_signal_and_2_for_a_bad_configuration(scene: Scene) -> None:
    """The exit codes are the library's, whoever runs the flow."""
    scene.fill(4)
    environment = {"PYTHONPATH": str(PIPELINES), "DRAKKAR_CONFIG": str(scene.config())}
    worker = scene.launch("-m", "bytewax.run", "terse:sleepers", environment=environment)
    worker.until(lambda: len(worker.descendants()) >= 8, "the programs and their children ran")
    worker.send(signal.SIGTERM)
    worker.until(lambda: '"drakkar_draining"' in worker.stderr, "it drained")
    assert worker.terminate(timeout_s=5.0) == 130
    until(lambda: not worker.descendants(), 5.0, "its children to end")

    environment["DRAKKAR_CONFIG"] = str(scene.config({"kafka": {"broker": "x"}}))
    worker = scene.launch("-m", "bytewax.run", "terse", environment=environment)
    assert worker.wait(BUDGET_S) == 2
    assert "Traceback" not in worker.stderr
