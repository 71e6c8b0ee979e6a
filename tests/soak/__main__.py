"""Command of the soak: `python -m soak MINUTES [RATE]`; exit code 1 if a worker grows, ends, or loses records.

Two workers run on a real Kafka while records are written at a steady rate. One is alone, in fixed mode, with state. The
other is a member of a group, with warm children, retries and two sinks; a second member joins and leaves now and then.
Both write dead letters.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.services import VARIABLES, Services
from soak.watch import FLOORS, Watch
from support.scene import Scene
from support.worker import Worker

_PIPELINES = Path(__file__).parent / "pipelines"
_SAMPLES = 200
_WARM_UP = 0.3  # of the run: arenas of malloc, caches and connection pools fill first
_REBALANCES = 6
_DRAIN_S = 120.0


class _Soak:
    def __init__(self, bootstrap: str, directory: Path, minutes: float) -> None:
        self.stateful = Scene(bootstrap, _made(directory / "stateful"), partitions=4)
        self.elastic = Scene(bootstrap, _made(directory / "elastic"), partitions=4)
        self.seconds = 60 * minutes
        alone = self.stateful.start(
            str(_PIPELINES / "stateful"),
            {"runtime": {"recovery": {"dir": str(directory / "store")}, "max_in_flight_records": 1000}},
        )
        member = self._member()
        self.watches = [Watch("stateful", alone), Watch("elastic", member)]
        self.rebalances = 0
        self._second: Worker | None = None

    def _member(self) -> Worker:
        scene = self.elastic
        program = {"binary_path": str(_PIPELINES / "shout.py"), "mode": "persistent", "max_executors": 2}
        program["env"] = {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
                          "PYTHONPATH": os.environ.get("PYTHONPATH", "")}  # fmt: skip
        sinks = {"kafka": {"out": {"topic": scene.out}}, "sqlite": {"results": {"path": str(scene.directory / "r.db")}}}
        return scene.start(
            str(_PIPELINES / "elastic"),
            {"executor": program, "sinks": sinks, "runtime": {"max_in_flight_records": 1000}},
        )

    def run(self, rate: float) -> None:
        """Write records, take samples, and let a second member join and leave."""
        for watch in self.watches:
            watch.worker.until_running()
        started, pause_s = time.monotonic(), max(0.5, self.seconds / _SAMPLES)
        with self.stateful.feeding(rate) as first, self.elastic.feeding(rate / 4) as second:
            while (at_s := time.monotonic() - started) < self.seconds:
                for watch in self.watches:
                    watch.sample(at_s)
                    assert watch.worker.exit_code is None, f"{watch.name} ended:\n{watch.worker.stderr[-4000:]}"
                self._rebalance(at_s)
                _say(f"{at_s:6.0f} s  {self._now()}")
                time.sleep(pause_s)
        for scene in (self.stateful, self.elastic):
            scene.until_finished(_DRAIN_S)
        self.written = first.count + second.count
        for watch in self.watches:
            code = watch.worker.terminate(timeout_s=60)
            assert code == 0, f"{watch.name} ended with {code}:\n{watch.worker.stderr[-4000:]}"

    def _rebalance(self, at_s: float) -> None:
        """Start or stop the second member, in turn."""
        if at_s * (2 * _REBALANCES + 1) / self.seconds > self.rebalances + 1:
            self.rebalances += 1
            if self._second is None:
                self._second = self._member()
            else:
                self._second.terminate(timeout_s=60)
                self._second = None

    def _now(self) -> str:
        found = [(watch.name, watch.samples[-1][1]) for watch in self.watches]
        return ", ".join(
            f"{name}: {values.get('memory', 0):.1f} MiB, {values.get('records in flight', 0):.0f} in flight"
            for name, values in found
        )

    def report(self) -> bool:
        """Print the trends; returns True if nothing grows."""
        after_s = _WARM_UP * self.seconds
        grown = []
        print(f"{self.written:,} records, {self.rebalances} rebalances; samples after {after_s:.0f} s of warm-up")
        print(
            f"{'worker':10} {'quantity':26} {'level':>9} {'per hour':>10} {'99 % interval':>21} {'growth':>8}  verdict"
        )
        for watch in self.watches:
            for quantity, found in watch.trends(after_s).items():
                grows = found.grows(FLOORS[quantity])
                grown += [quantity] * grows
                interval = f"{found.low:+.1f} to {found.high:+.1f}"
                print(
                    f"{watch.name:10} {quantity:26} {found.level:9.1f} {found.slope:+10.1f} {interval:>21} "
                    f"{found.growth:+8.1f}  {'GROWS' if grows else 'steady'}"
                )
        hours = self.seconds * (1 - _WARM_UP) / 3600
        limit = ", ".join(f"{quantity} {floor / hours:,.0f}" for quantity, floor in FLOORS.items())
        print(f"Less growth per hour than this is not noticed in a run of this length: {limit}.")
        return not grown

    def close(self) -> None:
        """End everything."""
        self.stateful.close()
        self.elastic.close()


@contextmanager
def _soak(minutes: float) -> Iterator[_Soak]:
    variable = VARIABLES["kafka"]
    bootstrap = os.environ.get(variable) or Services().environment().get(variable, "")
    if not bootstrap:
        raise SystemExit("no Kafka; start one with: make services-up")
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        soak = _Soak(bootstrap, Path(directory), minutes)
        try:
            yield soak
        finally:
            soak.close()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}\033[K")


def main() -> int:
    """Run the soak; returns the exit code."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 400.0
    with _soak(minutes) as soak:
        soak.run(rate)
        return 0 if soak.report() else 1


if __name__ == "__main__":
    sys.exit(main())
