"""`drakkar-flow lint`: everything that `run` would refuse offline, all of it at once, each with its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main

HANDLER = """\
from drakkar_flow import Handler, dataflow


class Words(Handler[dict, dict]):
    async def arrange(self, messages, pending):
        return []
{hooks}

flow = dataflow(Words())
"""
FLOW = "from drakkar_flow import *\n\nflow = dataflow(\n    StreamFlow('job'{source})\n    .route({sinks})\n)\n"
SOURCE = "kafka: {source_topic: in, consumer_group: job}\n"
PROGRAM = "executor: {binary_path: cat}\n"
SINK = "sinks: {kafka: {out: {topic: out}}}\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, without a configuration of this process's own."""
    for name in ("DRAKKAR_CONFIG", "DK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("job", None)


def lint(flow: str, settings: str, *options: str) -> int:
    """Write both files and lint them; gives the exit code."""
    Path("job.py").write_text(flow)
    Path("job.yaml").write_text(settings)
    with pytest.raises(SystemExit) as caught:
        main(["lint", "job.py", *options])
    return int(caught.value.code or 0)


def test_n13_a_whole_job_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stdout, exit code 0."""
    assert lint(HANDLER.format(hooks=""), SOURCE + SINK + PROGRAM) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"job.py with {Path.cwd()}/job.yaml (beside the flow): ok\n", "")


def test_n13_all_problems_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Source, group, sinks, a hook's name, a hook's parameters, the program, its directory, a sink's directory."""
    hooks = "    async def on_task_complet(self, result): ...\n    async def on_error(self): ...\n"
    Path("file").touch()
    settings = (
        "executor: {binary_path: no-such-program, cwd: /nowhere}\nsinks: {filesystem: {out: {base_path: file/below}}}\n"
    )
    assert lint(HANDLER.format(hooks=hooks), settings) == 2
    told = capsys.readouterr().err
    for line in (
        "  - [hook] job.py:7 Words.on_task_complet: unknown hook, never called; did you mean on_task_complete?",
        "  - [hook] job.py:8 Words.on_error: its parameters () don't fit: too many positional arguments; write ",
        "  - [source] kafka.source_topic: no source topic is set; ",
        "  - [source] kafka.consumer_group: no consumer group is set; ",
        "  - [program] executor.binary_path: no program 'no-such-program' on PATH ",
        "  - [program] executor.cwd: '/nowhere' is not a directory; ",
        f"  - [directory] sinks.filesystem.out.base_path: {Path.cwd()}/file is not a directory; ",
    ):
        assert line in told
    assert told.startswith(f"job.py with {Path.cwd()}/job.yaml (beside the flow): 7 errors\n")


def test_n13_flow_and_file_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    """A flow that is wrong and a file that is wrong: both, with their lines."""
    flow = "from drakkar_flow import *\nflow = dataflow(StreamFlow('a').map(3))\n"
    assert lint(flow, "kafka: {group_id: x}\nmetrics:\n  port: ${NO_SUCH_VARIABLE}\n") == 2
    told = capsys.readouterr().err
    assert "[flow] job.py:2 step map: 3 can't be called" in told
    assert "[flow] job.py:2 flow: results go nowhere" in told
    assert "[config] " in told
    assert "job.yaml:1:9 kafka.group_id: unknown key; did you mean kafka.consumer_group?" in told
    assert "NO_SUCH_VARIABLE" in told


def test_n13_sinks_that_are_missing_or_unused(capsys: pytest.CaptureFixture[str]) -> None:
    """A route's sink that is not configured is an error, a sink that no route names is a warning."""
    flow = FLOW.format(source="", sinks="KafkaSink('gone'), KafkaSink('out')")
    settings = SOURCE + "sinks:\n  kafka:\n    out: {topic: o}\n    spare: {topic: s}\n"
    assert lint(flow, settings) == 2
    out, err = capsys.readouterr()
    assert (
        "[sink] job.py:5 sinks.kafka.gone: the flow routes to it, but it is not configured; add sinks.kafka.gone" in err
    )
    assert "job.yaml:5:5 sinks.kafka.spare: configured but not used: route names " in out
    flow = FLOW.format(source="", sinks="KafkaSink('out')")
    assert lint(flow, settings) == 0
    assert lint(flow, settings, "--strict") == 2


def test_n13_no_program_anywhere_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless the file that makes the tasks names programs itself."""
    assert lint(HANDLER.format(hooks=""), SOURCE + SINK) == 0
    assert (
        "[program] executor.binary_path: no program is set, and the flow's file names none" in capsys.readouterr().out
    )
    assert lint(HANDLER.format(hooks="    # binary_path is a task's\n"), SOURCE + SINK, "--strict") == 0


def test_n13_json_has_code_place_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """For editors and CI."""
    assert (
        lint(
            HANDLER.format(hooks="    async def on_erorr(self, task, error): ...\n"), SOURCE + SINK + PROGRAM, "--json"
        )
        == 2
    )
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding == {
        "level": "error",
        "code": "hook",
        "place": "job.py:7",
        "where": "Words.on_erorr",
        "what": "unknown hook, never called",
        "remedy": "did you mean on_error?",
    }


def test_n13_a_helper_beside_its_hook_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A method that is only named like a hook which is there."""
    hooks = "    async def on_error(self, task, error): ...\n    def on_errors(self): ...\n"
    assert lint(HANDLER.format(hooks=hooks), SOURCE + SINK) == 0
    assert "warning [hook] job.py:8 Words.on_errors: unknown hook" in capsys.readouterr().out


def test_n13_on_startup_may_set_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Then topic, group and sinks are warnings."""
    hooks = "    async def on_startup(self, config): return config\n"
    assert lint(HANDLER.format(hooks=hooks), "") == 0
    assert capsys.readouterr().out.count("  - warning [") == 4


def test_n13_topics_of_the_flow_count() -> None:
    """KafkaSource names the topic: the file need not."""
    flow = FLOW.format(source=", source=KafkaSource('in')", sinks="KafkaSink('out')")
    assert lint(flow, "kafka: {consumer_group: job}\n" + SINK) == 0


def test_n13_functions_of_a_flow_whose_parameters_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with the line where it is defined."""
    flow = (
        "from drakkar_flow import *\n\ndef one(value): ...\n\ndef two(left, right): ...\n\n"
        "flow = dataflow(\n    StreamFlow('job')\n    .map(two)\n    .arrange(one)\n"
        "    .execute(on_error=one, priority=two)\n    .collect(two, on_window_complete=two)\n"
        "    .route(KafkaSink('out'), on_delivery_error=one)\n    .with_hooks(on_startup=two)\n)\n"
    )
    assert lint(flow, SOURCE + SINK) == 2
    told = capsys.readouterr().err
    assert "[hook] job.py:5 step map-two: its parameters (left, right) don't fit: missing a required argument" in told
    assert "[hook] job.py:3 step arrange-one: its parameters (value) don't fit: too many" in told
    assert "write them as (records, pending)" in told
    assert told.count("[hook] ") == 6


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("kafka: {source_topic: '^(', consumer_group: g}\n", "'^(' is not a regular expression"),
        (
            "kafka: {source_topic: a, consumer_group: g, session_timeout_ms: 10}\n",
            "must be below session_timeout_ms (10)",
        ),
        ("kafka: {source_topic: a, consumer_group: g, client_config: {no.such.thing: 1}}\n", "no.such.thing"),
        (
            "kafka: {source_topic: a, consumer_group: g, security: {protocol: SSL, ssl_ca_location: /no/ca.pem}}\n",
            "[file] kafka.security.ssl_ca_location: file '/no/ca.pem' not found",
        ),
        ("executor: {mode: persistent}\n" + SOURCE, "no program is set for the persistent children"),
        ("executor: {binary_path: /etc/passwd}\n" + SOURCE, "'/etc/passwd' is not a program that can be run"),
    ],
    ids=["regex", "heartbeat", "property", "certificate", "children", "not executable"],
)
def test_n13_settings_that_can_not_work(settings: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is an error that `run` would end with."""
    assert lint(HANDLER.format(hooks=""), settings + SINK) == 2
    assert told in capsys.readouterr().err


def test_n13_numbers_without_sense_are_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """With the line of the key."""
    settings = SOURCE + SINK + "executor:\n  window_size: 100\nruntime: {max_in_flight_records: 10}\n"
    assert lint(HANDLER.format(hooks=""), settings) == 0
    assert "[numbers] " in (told := capsys.readouterr().out)
    assert "job.yaml:4:3 executor.window_size: a window of 100 is never full" in told


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("kafka: {group.id: x}", "did you mean kafka.consumer_group?"),
        ("kafka: {groupId: x}", "did you mean kafka.consumer_group?"),
        ("kafka: {bootstrap_servers: x}", "did you mean kafka.brokers?"),
        ("kafka: {bootstrap.servers: x}", "did you mean kafka.brokers?"),
        ("kafka: {topic: x}", "did you mean kafka.source_topic, or "),
        ("kafka: {topics: [x]}", "did you mean kafka.source_topics?"),
        ("kafka: {max.poll.records: 1}", "did you mean kafka.max_poll_records?"),
        ("kafka: {max.poll.interval.ms: 1}", "did you mean kafka.max_poll_interval_ms?"),
        ("kafka: {auto.offset.reset: latest}", "did you mean kafka.auto_offset_reset?"),
        ("kafka: {security_protocol: SSL}", "did you mean kafka.security.protocol?"),
        ("kafka: {sasl.username: x}", "did you mean kafka.security.sasl_username?"),
        ("kafka: {enable_auto_commit: true}", "remove it: offsets are committed only after delivery"),
        ("kafka: {fetch.min.bytes: 1}", "properties of librdkafka belong under kafka.client_config"),
        ("sinks: {kafka: {a: {topic: t, bootstrap.servers: b}}}", "did you mean sinks.kafka.a.brokers?"),
        ("group_id: x", "did you mean kafka.consumer_group?"),
        ("executor: {max_executor: 2}", "did you mean 'max_executors'"),
        ("executor: {command: cat}", "did you mean 'binary_path'?"),
        ("sinks: {postgres: {a: {url: x}}}", "did you mean 'dsn'?"),
        ("sinks: {filesystem: {a: {path: x}}}", "did you mean 'base_path'?"),
    ],
)
def test_n13_hints_know_kafkas_names(key: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In each spelling that Kafka's clients have."""
    Path("job.yaml").write_text(key)
    with pytest.raises(SystemExit):
        main(["config", "lint", "job.yaml"])
    assert told in capsys.readouterr().err


def test_n13_a_run_without_topic_and_group_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read from a topic nobody named; the sink that is missing is told as well."""
    monkeypatch.setenv("DRAKKAR_METRICS__ENABLED", "false")
    Path("job.py").write_text(HANDLER.format(hooks=""))
    with pytest.raises(SystemExit) as caught:
        main(["run", "job.py"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "kafka.source_topic: no source topic is set" in told
    assert "kafka.consumer_group: no consumer group is set" in told
    assert "sinks: no sink is configured" in told


def test_a_cluster_without_addresses_can_be_checked_and_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may have the times of a cluster alone: -a, or `drakkar-flow cluster`, sets the addresses."""
    monkeypatch.setenv("DRAKKAR_METRICS__ENABLED", "false")
    Path("job.py").write_text(HANDLER.format(hooks=""))
    Path("drakkar.yaml").write_text(
        "kafka: {source_topic: in, consumer_group: jobs}\n"
        "sinks: {kafka: {results: {topic: out}}}\nexecutor: {binary_path: /bin/cat}\n"
        "runtime: {recovery: {}, cluster: {start_timeout_s: 5}}\n"
    )
    with pytest.raises(SystemExit) as caught:
        main(["config", "lint", "drakkar.yaml"])
    assert caught.value.code == 0
    with pytest.raises(SystemExit) as caught:
        main(["run", "job.py"])
    assert caught.value.code == 2
    assert "runtime.cluster.addresses: is missing; list the address of each process" in capsys.readouterr().err


def test_client_properties_that_do_not_go_together_are_found_offline(capsys: pytest.CaptureFixture[str]) -> None:
    """Of sinks and dead letters as well as of the source; shared ones once."""
    settings = SOURCE + "sinks: {kafka: {out: {topic: out, client_config: {acks: 1}}}}\n"
    flow = FLOW.format(source="", sinks="KafkaSink('out')")
    assert lint(flow, settings + "dlq: {client_config: {acks: 1, linger.ms: 7}}\n") == 2
    told = capsys.readouterr().err
    assert "[kafka] sinks.kafka.out.client_config: `acks` must be set to `all` when" in told
    assert "[kafka] dlq.client_config: `acks` must be set to `all`" in told
    whole = "kafka: {source_topic: in, consumer_group: job, client_config: {acks: 1}}\n"
    assert lint(flow, whole + SINK) == 2
    assert capsys.readouterr().err.count("`acks` must be set to `all`") == 1
    shared = "kafka: {source_topic: in, consumer_group: job, client_config: {socket.timeout.ms: soon}}\n"
    assert lint(flow, shared + SINK) == 2
    told = capsys.readouterr().err
    assert told.count("must be a number, not 'soon'") == 1
    assert f"{Path.cwd()}/job.yaml:1:64 kafka.client_config.socket.timeout.ms: " in told


def test_values_of_properties_that_the_flow_gives_are_checked_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With the line of the flow."""
    flow = FLOW.format(source="", sinks="KafkaSink('out', client_config={'linger.ms': 'often', 'acks': 0})")
    assert lint(flow, SOURCE + SINK) == 2
    told = capsys.readouterr().err
    assert "job.py:5 sinks.kafka.out.client_config.linger.ms: must be a number, not 'often'; fix the sink's" in told
    assert "job.py:5 sinks.kafka.out.client_config.acks: with acks 0 no broker acknowledges anything" in told


def test_a_recovery_store_is_checked_offline(capsys: pytest.CaptureFixture[str]) -> None:
    """Its directory, several Bytewax workers, and settings that only members of a group need."""
    flow = HANDLER.format(hooks="")
    member = SOURCE.replace("group: job", "group: job, group_instance_id: a")
    assert lint(flow, member + SINK + PROGRAM + "runtime: {recovery: {}}\n") == 0
    assert (
        "warning [recovery] kafka.group_instance_id: has no effect with runtime.recovery: this process alone reads all "
        "partitions; remove one of the two" in capsys.readouterr().out
    )
    assert not Path("recovery").exists()
    assert lint(flow, SOURCE + SINK + PROGRAM + "runtime: {recovery: {dir: job.py/store}}\n") == 2
    assert "[directory] runtime.recovery.dir: " in capsys.readouterr().err
    assert lint(flow, SOURCE + SINK + PROGRAM + "runtime: {recovery: {}, workers: 2}\n") == 2
    assert "runtime.recovery needs runtime.workers: 1" in capsys.readouterr().err
