"""Progress lines and the summary."""

from __future__ import annotations

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.events.sinks import DeadLettersWritten, DeliveriesWritten
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.progress import Progress, summary
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.observe.metrics.statistics import Statistics


class Run:
    """Statistics and gauges that a test moves, and the lines that were written."""

    def __init__(self, interval_s: float = 30.0) -> None:
        self.bus, self.statistics = Bus(), Statistics(clock=lambda: 10.0)
        self.statistics.listen(self.bus)
        self.gauges = RuntimeGauges()
        self.lines: list[LogLine] = []
        self.progress = Progress(self.statistics.snapshot, lambda: self.gauges, self.lines.append, interval_s)
        self.progress.look(0.0)

    def finish(self, count: int) -> None:
        """Records end well."""
        self.bus.emit(RecordsFinished(done=count, skipped=0, dead=0))


def test_n10_a_line_each_interval_says_what_was_done_and_what_is_left() -> None:
    """Totals, the rate since the last line, lag and what is in flight."""
    run = Run()
    run.finish(60)
    run.gauges = RuntimeGauges(in_flight_records=3, lag={("in", 0): 5, ("in", 1): 2}, oldest_s={("in", 0): 1.26})
    run.progress.look(29.9)
    assert run.lines == []
    run.progress.look(30.0)
    run.finish(30)
    run.progress.look(60.0)
    first, second = (line.fields for line in run.lines)
    assert (first["finished"], first["finished_per_s"]) == (60, 2.0)
    assert (first["lag"], first["in_flight"], first["oldest_s"]) == (7, 3, 1.3)
    assert (second["finished"], second["finished_per_s"]) == (90, 1.0)
    assert {(line.level, line.event) for line in run.lines} == {("info", "drakkar_progress")}


def test_n10_an_idle_flow_is_quiet_but_not_silent() -> None:
    """Every twentieth line is written; a flow that has work and does nothing is not idle."""
    run = Run()
    for number in range(1, 41):
        run.progress.look(number * 30.0)
    assert len(run.lines) == 2
    run.gauges = RuntimeGauges(lag={("in", 0): 1})
    run.progress.look(41 * 30.0)
    run.progress.look(42 * 30.0)
    assert len(run.lines) == 4


def test_n10_an_interval_of_0_writes_nothing() -> None:
    """But the summary."""
    run = Run(interval_s=0)
    run.finish(1)
    run.progress.look(1e6)
    assert run.lines == []


def test_n10_the_summary_has_the_whole_run() -> None:
    """With what each sink wrote."""
    run = Run()
    run.finish(3)
    run.bus.emit(DeliveriesWritten("kafka", "out", 2, 0.1))
    run.bus.emit(DeadLettersWritten(1))
    line = summary(run.statistics.snapshot())
    assert (line.level, line.event) == ("info", "drakkar_summary")
    expected = {"finished": 3, "dead_letters": 1, "written": {"kafka:out": 2}}
    assert expected.items() <= line.fields.items()
