"""Clusters: processes that share the partitions of one store, and start and stop together."""

from __future__ import annotations

import ctypes
import signal
import socket
from contextlib import suppress

import psutil
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from support.cluster import addresses, start_cluster, until_all_run
from support.kafka_io import produce
from support.scene import Scene
from support.worker import ROOT, Worker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

JOB = """
from drakkar_flow import KafkaSink, StreamFlow, dataflow

flow = dataflow(StreamFlow("job").decode(int).map(str).route(KafkaSink("out")))
"""
COUNTING = str(ROOT / "tests" / "chaos" / "pipelines" / "counting")


def test_one_process_told_to_stop_stops_all_and_nothing_repeats(scene: Scene) -> None:
    """Whichever it is: all drain, store and commit."""
    scene.fill(2000)
    for told in (0, 1):
        workers = start_cluster(scene, COUNTING, 2)
        until_all_run(workers)
        workers[told].until(lambda: scene.committed(), "a first commit")
        assert workers[told].terminate() == 0, workers[told].stderr
        assert [worker.wait() for worker in workers] == [0, 0], [worker.stderr for worker in workers]
    workers = start_cluster(scene, COUNTING, 2)
    until_all_run(workers)
    scene.until_finished()
    workers[0].terminate()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert scene.check_delivered(2000) == 0


def test_a_stop_that_the_system_gives_to_another_thread_is_heard(scene: Scene) -> None:
    """The kernel chooses the thread; the main thread, which handles signals, sleeps on."""
    workers = start_cluster(scene, COUNTING, 2)
    until_all_run(workers)
    threads = {each.id for each in psutil.Process(workers[1].pid).threads()} - {workers[1].pid}
    assert ctypes.CDLL(None, use_errno=True).tgkill(workers[1].pid, min(threads), signal.SIGTERM) == 0
    assert [worker.wait(60) for worker in workers] == [0, 0], [worker.stderr for worker in workers]


@pytest.mark.parametrize("told", [0, 1])
def test_a_process_stopped_during_the_start_stops_the_start_of_all(scene: Scene, told: int) -> None:
    """All have joined and wait for a broker that does not answer."""
    nowhere = {"kafka": {"brokers": "127.0.0.1:1", "startup_timeout_s": 300}}
    workers = start_cluster(scene, COUNTING, 3, sections=nowhere)
    for worker in workers:
        worker.until(lambda worker=worker: worker.lines("startup_waiting"), "it waits for the brokers")  # type: ignore[misc]
    assert workers[told].terminate() == 0, workers[told].stderr
    for worker in workers[:told] + workers[told + 1 :]:
        assert worker.wait() == 0, worker.stderr
        (line,) = worker.lines("start_stopped")
        assert f"process {told} (127.0.0.1:" in line["reason"]
        assert "was stopped" in line["reason"]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line_that_names_it(scene: Scene, killed: int) -> None:
    """Nothing is lost: the next cluster goes on."""
    scene.fill(2000)
    workers = start_cluster(scene, COUNTING, 3)
    workers[0].until(scene.committed, "all were connected")
    workers[killed].kill()
    for worker in workers[:killed] + workers[killed + 1 :]:
        assert worker.wait() == 1
        (line,) = worker.lines("engine_failed")
        assert f"process {killed} (127.0.0.1:" in line["reason"], worker.stderr
        assert "ended unexpectedly" in line["reason"]
        assert "Traceback" not in worker.stderr
    workers = start_cluster(scene, COUNTING, 3)
    scene.until_finished()
    workers[2].terminate()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    scene.check_delivered(2000)


def test_a_process_that_hangs_ends_the_others(scene: Scene) -> None:
    """No epoch ends while one of them stands still."""
    scene.fill(100)
    workers = start_cluster(scene, COUNTING, 2, stalled_after_s=5)
    workers[0].until(scene.committed, "all were connected")
    workers[1].send(signal.SIGSTOP)
    assert workers[0].wait() == 1
    (line,) = workers[0].lines("cluster_broken")
    assert "no epoch has ended for" in line["reason"]
    workers[1].send(signal.SIGCONT)
    assert workers[1].wait() == 1


def test_a_missing_process_is_named_and_the_budget_is_kept(scene: Scene) -> None:
    """Each process that waits says who did not come."""
    workers = start_cluster(scene, COUNTING, 3, start_timeout_s=3)
    workers[1].kill()
    assert workers[0].wait() == workers[2].wait() == 1
    for worker in (workers[0], workers[2]):
        assert "process 1 (127.0.0.1:" in worker.stderr
        assert "did not join within 3 s" in worker.stderr
    workers = start_cluster(scene, COUNTING, 2, start_timeout_s=3)
    workers[0].kill()
    assert workers[1].wait() == 1
    assert "process 0 (127.0.0.1:" in workers[1].stderr
    assert "did not join within 3 s" in workers[1].stderr


def test_a_stranger_on_the_port_does_no_harm(scene: Scene) -> None:
    """A health check connects, says nothing or something, and goes."""
    workers = start_cluster(scene, COUNTING, 2)

    def knock() -> None:
        for connection in psutil.Process(workers[0].pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                with suppress(OSError), socket.create_connection(connection.laddr, 1) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")

    workers[1].send(signal.SIGSTOP)  # so that process 0 waits
    workers[0].until(lambda: psutil.Process(workers[0].pid).net_connections("tcp4"), "it listens")
    for _ in range(20):
        knock()
    workers[1].send(signal.SIGCONT)
    until_all_run(workers)
    assert workers[0].terminate() == 0
    assert workers[1].wait() == 0


def _launch_cluster(scene: Scene, records: int) -> Worker:
    """The command with two processes, as soon as it has committed something."""
    scene.fill(records)
    recovery = {"dir": str(scene.directory / "store"), "snapshot_interval_s": 0.2}
    config = scene.config({"runtime": {"recovery": recovery}})
    supervisor = scene.launch("-m", "drakkar_flow", "cluster", "-n", "2", f"{COUNTING}.py", "--config", config)
    supervisor.until(scene.committed, "a first commit")
    return supervisor


def test_the_cluster_command_restarts_all_and_passes_a_stop_on(scene: Scene) -> None:
    """A killed process ends the cluster, which goes on by itself; SIGTERM ends it cleanly."""
    supervisor = _launch_cluster(scene, 2000)
    psutil.Process(supervisor.pid).children()[1].kill()
    supervisor.until(lambda: "all processes start again in 1 s" in supervisor.stderr, "it noticed")
    scene.until_finished()
    assert supervisor.terminate() == 0, supervisor.stderr
    assert not supervisor.descendants()
    scene.check_delivered(2000)


def test_a_killed_cluster_command_takes_its_processes_along(scene: Scene) -> None:
    """They drain, so nothing is repeated; else they would run on without the command that stops them."""
    supervisor = _launch_cluster(scene, 500)
    processes = psutil.Process(supervisor.pid).children()
    supervisor.kill()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    again = _launch_cluster(scene, 0)
    scene.until_finished()
    assert again.terminate() == 0, again.stderr
    assert scene.check_delivered(500) == 0


def test_the_cluster_command_does_not_retry_a_wrong_configuration(scene: Scene) -> None:
    """Without a store there is no cluster."""
    command = ("-m", "drakkar_flow", "cluster", "-n", "2", f"{COUNTING}.py", "--config", scene.config())
    supervisor = scene.launch(*command)
    assert supervisor.wait() == 2
    assert "runtime.cluster needs runtime.recovery; add recovery: {}" in supervisor.stderr


def test_bytewax_runner_takes_its_place_in_the_cluster(scene: Scene) -> None:
    """`-i` and `-a` mean the same there, and a stop reaches all."""
    scene.fill(500)
    places = ";".join(addresses(2))
    file = scene.config({"runtime": {"recovery": {"dir": str(scene.directory / "store")}}})
    (scene.directory / "job.py").write_text(JOB)
    workers = [
        scene.launch("-m", "bytewax.run", "job", "-i", str(n), "-a", places, environment={"DRAKKAR_CONFIG": str(file)})
        for n in range(2)
    ]
    workers[1].until(scene.committed, "a first commit")
    scene.until_finished()
    assert workers[1].terminate() == 0
    assert workers[0].wait() == 0
    assert scene.check_delivered(500) == 0


def test_members_that_do_not_belong_together_are_refused(scene: Scene) -> None:
    """Other addresses, or a place that is taken."""
    first = start_cluster(scene, COUNTING, 2)
    places = yaml.safe_load(next(scene.directory.glob("config-*.yaml")).read_text())["runtime"]["cluster"]
    first[1].kill()
    other = {"addresses": [*places["addresses"], *addresses(1)], "process_id": 1}
    recovery = {"dir": str(scene.directory / "store")}
    stray = scene.start(COUNTING, {"runtime": {"recovery": recovery, "cluster": other}})
    assert stray.wait() == 2
    assert "runtime.cluster: addresses " in stray.stderr
    twin = scene.start(COUNTING, {"runtime": {"recovery": recovery, "cluster": {**places, "process_id": 0}}})
    assert twin.wait() == 2
    assert "of process 0 is in use" in twin.stderr
    first[0].kill()


def test_a_commit_that_is_behind_the_store_follows_at_the_start(scene: Scene) -> None:
    """Also without new records, so that lag tools see the truth; a kill between row and commit leaves it behind."""
    scene.fill(200)
    (worker,) = start_cluster(scene, COUNTING, 1)
    worker.until_running()
    scene.until_finished()
    assert worker.terminate() == 0
    client = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": scene.group})
    client.commit(offsets=[TopicPartition(scene.source, n, 1) for n in scene.committed()], asynchronous=False)
    client.close()
    assert set(scene.committed().values()) == {1}
    workers = start_cluster(scene, COUNTING, 2)
    scene.until_finished()
    workers[0].terminate()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert scene.check_delivered(200) == 0


def test_a_flow_that_fails_in_one_process_fails_in_all(scene: Scene) -> None:
    """They drain, and the others name it and its reason."""
    workers = start_cluster(scene, COUNTING, 2, {"on_decode_error": "fail"})
    until_all_run(workers)
    produce(scene.bootstrap, scene.source, ["no number"])
    assert [worker.wait() for worker in workers] == [1, 1]
    reasons = [worker.lines("flow_failed")[-1]["reason"] for worker in workers]
    assert len([reason for reason in reasons if reason.startswith("process ") and ") failed: " in reason]) == 1
