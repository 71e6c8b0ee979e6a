"""Progress display of the demo: a bar on a terminal, a line per second elsewhere."""

from __future__ import annotations

from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot

__all__ = ["Screen", "make_screen"]

_WAITING = "joining the group, 3 s"


class Screen(Protocol):
    """Shows a run; `busy_s` is the time in which records were processed."""

    busy_s: float

    def show(self, now: StatisticsSnapshot) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def make_screen(console: Console, total: int) -> Screen:
    """The screen for the output: terminal or file."""
    return _Bar(console, total) if console.is_terminal else _Lines(console, total)


class _Clock:
    """Measures from the first record read to the last one finished."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._began: float | None = None
        self._finished = 0

    def take(self, now: StatisticsSnapshot) -> None:
        if now.totals.records_read and self._began is None:
            self._began = now.uptime_s
        if self._began is not None and now.totals.records_finished > self._finished:
            self._finished = now.totals.records_finished
            self.busy_s = max(now.uptime_s - self._began, 0.001)


class _Bar(_Clock):
    def __init__(self, console: Console, total: int) -> None:
        super().__init__()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(_WAITING, total=total, rate="")

    def show(self, now: StatisticsSnapshot) -> None:
        self.take(now)
        done, what = now.totals.records_finished, _described(now)
        self._progress.update(self._task, completed=done, description=what, rate=f"{self._rate(done):,.0f}/s")

    def _rate(self, done: int) -> float:
        return done / self.busy_s if self.busy_s else 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        self._progress.console.show_cursor()  # a second Ctrl-C ends the process without further output
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class _Lines(_Clock):
    def __init__(self, console: Console, total: int) -> None:
        super().__init__()
        self._console = console
        self._total = total
        self._shown: tuple[str, int] | None = None

    def show(self, now: StatisticsSnapshot) -> None:
        self.take(now)
        what = _described(now)
        shown = (what, 0 if what == _WAITING else int(now.uptime_s))
        if shown != self._shown:
            self._shown = shown
            self._console.print(f"  {now.uptime_s:4.1f} s  {now.totals.records_finished:,} of {self._total:,}  {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _described(now: StatisticsSnapshot) -> str:
    if now.totals.state == "draining":
        return "finishing records in flight"
    return "searching" if now.totals.records_read else _WAITING
