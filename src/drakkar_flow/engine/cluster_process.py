"""Cluster process: a worker's link to the other processes, and the watch over a dataflow that they share."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.cluster import ClusterConfig
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.stalls import StallDetector
from drakkar_flow.runtime.cluster.link import ClusterLink
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["ClusterProcess", "cluster_problems", "cluster_process_of"]

_TICK_S = 0.5
_BUILT_S = 10.0  # for Bytewax to connect the processes and to build the sources
_BROKEN_S = 5.0  # for Bytewax to notice that another process has ended
_ENGINE = "engine"


def cluster_problems(config: DrakkarConfig) -> list[Problem]:
    """Return a problem if a cluster has no addresses; the other commands need none."""
    cluster = config.runtime.cluster
    if cluster is None or cluster.addresses:
        return []
    remedy = "list the address of each process, pass -i and -a, or start all with drakkar-flow cluster"
    return [Problem("runtime.cluster.addresses", "is missing", remedy)]


def cluster_process_of(
    config: DrakkarConfig, flow: str, stop: Callable[[str], object], log: Any
) -> ClusterProcess | None:
    """Return the cluster process of a configuration; None for a single process."""
    cluster = config.runtime.cluster
    if cluster is None:
        return None
    return ClusterProcess(cluster, flow, config.kafka.startup_timeout_s, stop, log)


class ClusterProcess:
    """One process of a cluster.

    Args:
        settings: the addresses and the place of this process.
        flow: name of the flow.
        prepare_s: seconds that another process may take to connect everything.
        stop: called when another process stops, with the reason if it failed, else an empty text.
        log: for what ends the process.
    """

    def __init__(
        self, settings: ClusterConfig, flow: str, prepare_s: float, stop: Callable[[str], object], log: Any
    ) -> None:
        self.settings = settings
        self._prepare_s = max(prepare_s, settings.start_timeout_s)
        self._log = log
        self._link = ClusterLink(settings, flow, stop)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._control: StopSignal | None = None

    @property
    def is_first(self) -> bool:
        """True for process 0, which makes the store."""
        return self.settings.process_id == 0

    @property
    def interrupted(self) -> Future[None]:
        """Gets the error, if another process fails or is stopped before all have started."""
        return self._link.interrupted

    def join(self) -> None:
        """Wait for the other processes.

        Raises:
            StartupError: they are missing, or do not belong together.
            StartStopped: another process was stopped.
        """
        self._link.join()
        processes = len(self.settings.addresses)
        self._log.info("cluster_joined", process=self.settings.process_id, processes=processes)

    def wait_for_store(self) -> None:
        """Wait until the first process has opened the store; the first one says that it has.

        Raises:
            StartupError: a process failed or ended.
            StartStopped: another process was stopped.
        """
        self._link.reach("store", self._prepare_s)

    def check_others(self) -> None:
        """Check that no other process has ended.

        Raises:
            StartupError: one has.
        """
        if ended := self.cause_of_failure():
            raise StartupError([Problem("runtime.cluster", ended, "see the log of that process")])

    def begin(self, control: StopSignal) -> None:
        """Wait until all processes are ready, then share stops with them and watch the dataflow.

        Raises:
            StartupError: a process failed or ended.
            StartStopped: another process was stopped.
        """
        self._control = control
        wake = control.on_stop

        def stop() -> None:
            wake()
            self._link.stop(control.failure)

        control.on_stop = stop
        if control.stopping:
            stop()
        self._link.reach("run", self._prepare_s)
        self._thread = threading.Thread(target=self._watch, name="drakkar-cluster-watch", daemon=True)
        self._thread.start()

    def cause_of_failure(self) -> str:
        """Return which process ended, if that may have ended the engine; else an empty text."""
        return self._link.lost(timeout_s=1.0)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bytewax.run.cli_main`."""
        return {"process_id": self.settings.process_id, "addresses": list(self.settings.addresses)}

    def engine_ended(self) -> None:
        """End the watch; safe to call twice."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def close(self, failure: str, *, stopped: bool = False) -> None:
        """Take leave of the other processes; a failure or a stop of the start ends them too. Safe to call twice."""
        self.engine_ended()
        self._link.close(failure, stopped=stopped)

    def _watch(self) -> None:
        assert self._control is not None
        began_at = time.monotonic()
        lost_at: float | None = None
        detector: StallDetector[str] = StallDetector(self.settings.stalled_after_s, max_step_s=2 * _TICK_S)
        while not self._closing.wait(_TICK_S):
            now, turns = time.monotonic(), dict(self._control.turns)
            if self._link.lost():
                lost_at = lost_at or now
                if now - lost_at >= _BROKEN_S:
                    self._end(self._link.lost())
            elif not turns and now - began_at >= _BUILT_S:
                self._end(f"the processes did not connect within {_BUILT_S:g} s")
            elif turns and not self._control.stopping:
                stalled, _ = detector.look({_ENGINE: sum(turns.values())}, now)
                if stalled:
                    self._end(f"no epoch has ended for {stalled[_ENGINE]:.0f} s: {_place_of(turns)}")

    def _end(self, reason: str) -> None:
        """End the process at once: a call into Bytewax can't be cancelled."""
        try:
            expect = "the process ends now with exit code 1; unfinished records are read again"
            self._log.error("cluster_broken", reason=reason, expect=expect)
            self._link.close(reason)
        finally:
            os._exit(1)


def _place_of(turns: dict[int, int]) -> str:
    """Return where the engine's thread is: in a step of this process, or in Bytewax."""
    frames = sys._current_frames()  # noqa: SLF001 - the only way to get the stack of another thread
    frame = next((frames[ident] for ident in turns if ident in frames), None)
    if frame is None:
        return "another process hangs, or the network between them is cut"
    last = traceback.extract_stack(frame)[-1]
    return f"a synchronous step of this process blocks in {last.name} ({last.filename}:{last.lineno})"
