"""Plug-ins at the command line: their settings are checked, documented and shown like the library's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.packages import CSV_SINK, package

JOB = """\
from drakkar_flow import *

flow = dataflow(StreamFlow("job").route({sinks}))
"""
SOURCE = "kafka: {source_topic: in, consumer_group: job}\n"
CSV = "sinks: {csv: {out: {path: out.csv, token: hush}}}\n"
SINKS = "drakkar_flow__sinks"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of installed packages: one that brings the kind csv."""
    return package(tmp_path / "site", "good_csv", CSV_SINK, **{SINKS: {"csv": "good_csv:SPEC"}})


def command(site: Path, *arguments: str, settings: str = SOURCE + CSV, sinks: str = "") -> tuple[int, str]:
    """The exit code of the command, and all that it printed."""
    directory = site.parent
    (directory / "job.py").write_text(JOB.format(sinks=sinks))
    (directory / "job.yaml").write_text(settings)
    environ = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", "drakkar_flow", *arguments], cwd=directory, env=environ, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_sink_of_a_plug_in_is_a_sink(site: Path) -> None:
    """In the configuration, for a route that names nothing or the sink itself."""
    assert command(site, "lint", "job.py") == (0, f"job.py with {site.parent}/job.yaml (beside the flow): ok\n")
    code, said = command(site, "lint", "job.py", sinks="CustomSink('csv', 'out')")
    assert (code, ": ok" in said) == (0, True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("sinks: {csv: {out: {}}}", "15 sinks.csv.out.path: is missing"),
        ("sinks: {csv: {out: {path: a, file: a}}}", "30 sinks.csv.out.file: unknown key; did you mean 'path'?"),
        ("sinks: {cvs: {out: {path: a}}}", "9 sinks.cvs: unknown key; did you mean 'csv'?"),
        ("sinks: {csv: {out: {path: a, retry: {attempts: 0}}}}", "38 sinks.csv.out.retry.attempts: must be at least 1"),
    ],
)
def test_its_settings_are_checked_with_their_place(site: Path, settings: str, said: str) -> None:
    """By the plug-in's own model, and for what all sinks have."""
    code, report = command(site, "lint", "job.py", settings=f"{SOURCE}{settings}\n")
    assert code == 2
    assert f"job.yaml:2:{said}" in report


def test_settings_in_code_are_checked_at_the_line_of_the_flow(site: Path) -> None:
    """As for the library's own sinks."""
    code, report = command(site, "lint", "job.py", settings=SOURCE, sinks="CustomSink('csv', 'out', path=3)")
    assert code == 2
    assert "sinks.csv.out.path: Input should be a valid string" in report
    assert "job.py:3" in report


def test_it_is_shown_and_documented(site: Path) -> None:
    """Without its secrets."""
    shown = command(site, "config", "show", "job.yaml")[1]
    assert "path: out.csv" in shown
    assert "hush" not in shown
    assert 'token: "********"' in shown or "token: '********'" in shown
    docs = command(site, "config", "docs")[1]
    assert "## `sinks.csv.<name>`" in docs
    assert "| `path` | text | required |  | The file. |" in docs
    schema = json.loads(command(site, "config", "schema")[1])
    assert schema["$defs"]["CsvConfig"]["properties"]["path"]["description"] == "The file."


@pytest.mark.parametrize("option", ["--set", "environment"])
def test_it_is_set_from_outside_the_file(site: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """By `--set` and by variables."""
    arguments = ["config", "show", "job.yaml"]
    if option == "--set":
        arguments += ["--set", "sinks.csv.out.path=other.csv"]
    else:
        monkeypatch.setenv("DRAKKAR_SINKS__CSV__OUT__PATH", "other.csv")
    assert "path: other.csv  # " in command(site, *arguments)[1]


@pytest.fixture
def broken(site: Path) -> Path:
    """The same with a package that can't be imported."""
    return package(site, "bad_tsv", "import nowhere", **{SINKS: {"tsv": "bad_tsv:SPEC"}})


WARNING = (
    "package bad_tsv 1.0: invalid plug-in: bad_tsv:SPEC can't be imported: "
    "ModuleNotFoundError: No module named 'nowhere'; fix it, or uninstall it"
)


def test_a_broken_plug_in_is_a_warning_for_flows_without_it(broken: Path) -> None:
    """They are checked and run all the same."""
    code, report = command(broken, "lint", "job.py")
    assert code == 0
    assert f"warning [config] {WARNING}" in report


@pytest.mark.parametrize(
    ("settings", "sinks", "where"),
    [("sinks: {tsv: {out: {}}}\n", "", "job.yaml:2:9 sinks.tsv"), (CSV, "CustomSink('tsv', 'out')", "sinks.tsv.out")],
)
def test_a_broken_plug_in_stops_flows_that_use_it(broken: Path, settings: str, sinks: str, where: str) -> None:
    """With the package and the reason."""
    code, report = command(broken, "lint", "job.py", settings=SOURCE + settings, sinks=sinks)
    assert code == 2
    assert f"{where}: {WARNING}" in report


def test_py_drakkars_section_of_custom_sinks_is_read(site: Path) -> None:
    """`sinks.custom.<kind>.<name>`, with a notice."""
    code, report = command(site, "lint", "job.py", settings=SOURCE + "sinks: {custom: {csv: {out: {path: a}}}}\n")
    assert code == 0
    assert "sinks.custom.csv: is now sinks.csv; its value counts there; rename it" in report


def test_two_sinks_that_a_payload_could_not_tell_apart_are_refused(site: Path) -> None:
    """Of two kinds that take the same payload, with one name."""
    source = CSV_SINK.replace('"csv"', '"tsv"')
    package(site, "good_tsv", source, **{SINKS: {"tsv": "good_tsv:SPEC"}})
    both = "sinks: {csv: {out: {path: a}}, tsv: {out: {path: b}}}\n"
    code, report = command(site, "lint", "job.py", settings=SOURCE + both)
    assert code == 2
    assert "takes CustomPayload under the same name as sinks.csv.out; rename one of them" in report
