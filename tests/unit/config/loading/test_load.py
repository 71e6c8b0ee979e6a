"""Loading: which layer wins, and how every problem is told."""

from pathlib import Path

import pytest
from pydantic_core import ErrorDetails

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.load import from_mapping, load, load_config
from drakkar_flow.config.loading.validation_errors import validation_problem
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.errors import ConfigError


def written(tmp_path: Path, text: str | bytes) -> Path:
    """A file with the text."""
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path | str | None, **environ: str) -> list[str]:
    """What loading complains about, without the directory."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ)
    prefix = f"{Path(path).parent}/" if path else ""
    return [str(problem).removeprefix(prefix) for problem in caught.value.problems]


def test_without_anything_the_defaults_hold() -> None:
    """No file, no variables: the defaults of py-drakkar."""
    config = load_config(environ={})
    assert config == DrakkarConfig()
    assert (config.kafka.source_topic, config.kafka.consumer_group) == ("input-events", "drakkar-workers")
    assert (config.kafka.max_poll_records, config.executor.max_executors, config.metrics.port) == (100, 4, 9090)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "kafka:\nsinks:\n  kafka:\napp:\n"])
def test_an_empty_file_or_section_means_defaults(tmp_path: Path, text: str) -> None:
    """Sections with everything commented out are what people write."""
    assert load_config(written(tmp_path, text), environ={}) == DrakkarConfig()


def test_later_layers_win(tmp_path: Path) -> None:
    """Defaults < YAML < environment < overrides, merged key by key."""
    path = written(tmp_path, "kafka: {brokers: yaml, source_topic: yaml, consumer_group: yaml}\n")
    environ = {"DRAKKAR_KAFKA__SOURCE_TOPIC": "env", "DRAKKAR_KAFKA__CONSUMER_GROUP": "env"}
    config = load_config(path, environ=environ, overrides={"kafka": {"consumer_group": "override"}})
    kafka = config.kafka
    assert (kafka.max_poll_records, kafka.brokers, kafka.source_topic, kafka.consumer_group) == (
        100,
        "yaml",
        "env",
        "override",
    )


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    """A list from a later layer stands alone."""
    path = written(tmp_path, "kafka: {source_topics: [a, b]}\n")
    assert load_config(path, environ={"DK_KAFKA__SOURCE_TOPICS": '["c"]'}).kafka.topics == ("c",)


@pytest.mark.parametrize("name", ["DRAKKAR_CONFIG", "DK_CONFIG"])
def test_the_environment_names_the_file(tmp_path: Path, name: str) -> None:
    """Without an argument the variable counts; with one it does not."""
    path = written(tmp_path, "cluster_name: north\n")
    assert load_config(environ={name: str(path)}).cluster_name == "north"
    assert load_config(path, environ={name: "/nowhere"}).cluster_name == "north"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ` the real one is read."""
    monkeypatch.setenv("DRAKKAR_RUNTIME__WORKERS", "3")
    assert load_config().runtime.workers == 3


def test_all_problems_are_told_at_once_with_line_and_column(tmp_path: Path) -> None:
    """One error holds what is wrong in the file, in variables it needs and in the environment."""
    path = written(
        tmp_path,
        "kafka:\n"
        "  brokerz: a\n"
        "  max_poll_records: lots\n"
        "  window_size: 3\n"
        "executor:\n"
        "  env: {A: 1, B: '${NOPE}'}\n"
        "  max_executors: 0\n"
        "sinks:\n"
        "  kafka:\n"
        "    out:\n"
        "logging: {format: xml}\n",
    )
    assert sorted(problems(path, DRAKKAR_RUNTIME__WORKERS="x", DK_METRICS__PROT="1")) == [
        "environment variable DK_METRICS__PROT: unknown key; did you mean 'port'?",
        "environment variable DRAKKAR_RUNTIME__WORKERS: must be a whole number, not 'x'",
        "pipeline.yaml:10:5 sinks.kafka.out.topic: is missing; it has no default",
        "pipeline.yaml:11:11 logging.format: must be one of 'auto', 'json' or 'console', not 'xml'",
        "pipeline.yaml:2:3 kafka.brokerz: unknown key; did you mean 'brokers'?",
        "pipeline.yaml:3:3 kafka.max_poll_records: must be a whole number, not 'lots'",
        "pipeline.yaml:4:3 kafka.window_size: unknown key; it belongs under executor",
        (
            "pipeline.yaml:6:15 executor.env.B: the environment variable NOPE is not set; "
            "set it, or write ${NOPE:-default}"
        ),
        "pipeline.yaml:6:9 executor.env.A: must be text, not 1; quote it",
        "pipeline.yaml:7:3 executor.max_executors: must be at least 1, not 0",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("brokers: x", "pipeline.yaml:1:1 brokers: unknown key; it belongs under kafka or sinks.kafka.* or dlq"),
        ("dlq: {metrics: 1}", "pipeline.yaml:1:7 dlq.metrics: unknown key; 'metrics' belongs at the top level"),
        ("kafka: {topic: x}", ("pipeline.yaml:1:9 kafka.topic: unknown key; did you mean kafka.source_topic, "
                              "or does it belong under sinks.kafka.* or dlq or runtime.state?")),
        ("executor: {max-retries: 1}", ("pipeline.yaml:1:12 executor.max-retries: unknown key; "
                                       "did you mean 'max_retries'?")),
        ("sinks: {postgress: {}}", "pipeline.yaml:1:9 sinks.postgress: unknown key; did you mean 'postgres'?"),
        ("kafka: x", "pipeline.yaml:1:1 kafka: must be a section of keys and values, not text"),
        ("kafka: [x]", "pipeline.yaml:1:1 kafka: must be a section of keys and values, not a list"),
        ("app: x", "pipeline.yaml:1:1 app: must be a mapping of keys to values, not 'x'"),
        ("cluster_name: null", ("pipeline.yaml:1:1 cluster_name: must be text, not nothing; "
                               "remove the key to get its default")),
        ("cluster_name: 7", "pipeline.yaml:1:1 cluster_name: must be text, not 7; quote it"),
        ("metrics: {port: yes}", "pipeline.yaml:1:11 metrics.port: must be a number, not true"),
        ("metrics: {port: 1.5}", "pipeline.yaml:1:11 metrics.port: must be a whole number, not 1.5"),
        ("metrics: {port: 70000}", "pipeline.yaml:1:11 metrics.port: must be at most 65535, not 70000"),
        ("metrics: {enabled: maybe}", "pipeline.yaml:1:11 metrics.enabled: must be true or false, not 'maybe'"),
        ("executor: {task_timeout_seconds: .inf}", ("pipeline.yaml:1:12 executor.task_timeout_seconds: "
                                                   "must be a finite number, not inf")),
        ("executor: {binary_path: ''}", "pipeline.yaml:1:12 executor.binary_path: must not be empty"),
        ("runtime: {buffer_mib: 0}", "pipeline.yaml:1:11 runtime.buffer_mib: must be more than 0.0, not 0"),
        ("kafka: {source_topics: [a, 1]}", "pipeline.yaml:1:28 kafka.source_topics[1]: must be text, not 1; quote it"),
        ("kafka: {source_topics: a}", "pipeline.yaml:1:9 kafka.source_topics: must be a list, not 'a'"),
    ],
)  # fmt: skip
def test_each_violation_is_told_in_plain_english(tmp_path: Path, text: str, problem: str) -> None:
    """Place, what is wrong with which value, and what to do."""
    assert problems(written(tmp_path, text)) == [problem]


def test_a_violation_of_a_new_kind_is_still_told() -> None:
    """What has no wording of our own takes pydantic's, with the value."""
    details: ErrorDetails = {"type": "odd", "loc": ("kafka", "brokers"), "msg": "Input is odd", "input": 3}
    assert str(validation_problem(details, Layer())) == "kafka.brokers: input is odd, given 3"


def test_secrets_stay_out_of_problems(tmp_path: Path) -> None:
    """Values of secret fields and secret-sounding names are masked, URLs lose their credentials."""
    path = written(
        tmp_path,
        "kafka: {security: {sasl_password: 8472913}, max_poll_records: 'http://joe:hunter2@x'}\n"
        "executor: {env: {DB_PASSWORD: 5551234}}\n",
    )
    told = "\n".join(problems(path, DRAKKAR_KAFKA__SECURITY='{"sasl_password": "hunter3"'))
    assert "********" in told
    assert not any(secret in told for secret in ("8472913", "hunter2", "5551234", "hunter3"))


def test_a_secret_field_is_masked_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The type counts, not only the sound of the name."""
    monkeypatch.setattr("drakkar_flow.config.loading.validation_errors.is_sensitive", lambda name: False)
    with pytest.raises(ConfigError, match=r"sasl_password: must be text, not \*{8}"):
        from_mapping({"kafka": {"security": {"sasl_password": 8472913}}})


def test_a_value_with_a_problem_gets_no_second_one(tmp_path: Path) -> None:
    """An unset variable where a number is meant is one problem."""
    path = written(tmp_path, "metrics: {port: '${PORT}'}\n")
    (problem,) = problems(path)
    assert "PORT is not set" in problem


def test_a_replaced_value_is_blamed_on_who_replaced_it(tmp_path: Path) -> None:
    """Positions of the file and names of variables do not outlive their values."""
    path = written(tmp_path, "kafka: {source_topics: [a, b]}\n")
    variable = {"DK_KAFKA__SOURCE_TOPICS": '["a", 1]'}
    assert problems(path, **variable)[0].startswith(
        "environment variable DK_KAFKA__SOURCE_TOPICS kafka.source_topics[1]: must be text"
    )
    with pytest.raises(ConfigError, match=r"- override kafka\.source_topics: must be a list"):
        load_config(path, environ=variable, overrides={"kafka": {"source_topics": "a"}})


def test_a_rule_of_the_whole_points_at_the_file(tmp_path: Path) -> None:
    """Even when overrides came later."""
    path = written(tmp_path, "kafka: {source_topic: ^in}\n")
    with pytest.raises(ConfigError, match=r"pipeline\.yaml: dlq\.topic must be set"):
        load_config(path, environ={}, overrides={"cluster_name": "x"})


def test_rules_between_keys_point_at_their_section(tmp_path: Path) -> None:
    """What no single key is to blame for stands at the section, or at the file."""
    path = written(tmp_path, "kafka:\n  heartbeat_interval_ms: 50000\n")
    assert problems(path) == [
        (
            "pipeline.yaml:1:1 kafka: heartbeat_interval_ms (50000) must be below session_timeout_ms (45000), "
            "best a third of it"
        )
    ]
    path.write_text("kafka: {source_topic: '^in-.*'}\n")
    assert problems(path) == ["pipeline.yaml: dlq.topic must be set when the source topic is a regular expression"]
    with pytest.raises(ConfigError, match=r"- override: dlq.topic must be set"):
        load_config(environ={}, overrides={"kafka": {"source_topic": "^in"}})
    assert problems(None, DK_KAFKA__SOURCE_TOPIC="^in") == [
        "configuration: dlq.topic must be set when the source topic is a regular expression"
    ]


@pytest.mark.parametrize("dlq", [{"topic": "in"}, {"topic": "in", "brokers": "b"}])
def test_dead_letters_do_not_come_back(dlq: dict[str, str]) -> None:
    """A dead letter topic that is a source topic of the same brokers would loop."""
    with pytest.raises(ConfigError, match="also a source topic"):
        from_mapping({"kafka": {"source_topic": "in", "brokers": "b"}, "dlq": dlq})
    from_mapping({"kafka": {"source_topic": "in", "brokers": "b"}, "dlq": {"topic": "in", "brokers": "other"}})


def test_an_override_is_named_as_such() -> None:
    """Problems of overrides and plain mappings name their source and path."""
    with pytest.raises(ConfigError, match=r"- override kafka.brokerz: unknown key; did you mean 'brokers'"):
        load_config(environ={}, overrides={"kafka": {"brokerz": "x"}})
    with pytest.raises(ConfigError, match=r"- flow config kafka.brokerz: unknown key"):
        from_mapping({"kafka": {"brokerz": "x"}}, "flow config")


@pytest.mark.parametrize("data", [{1: 2}, {"app": {None: 1}}, [], "x", None, {"app": {"n": 2**65}}])
def test_a_mapping_that_is_no_configuration_is_refused(data: object) -> None:
    """Keys that are no text, other shapes and absurd numbers are problems, not crashes."""
    with pytest.raises(ConfigError):
        from_mapping(data)  # type: ignore[arg-type]  # wrong on purpose


def test_a_mapping_that_holds_itself_is_refused() -> None:
    """A cycle is noticed."""
    data: dict[str, object] = {}
    data["app"] = data
    with pytest.raises(ConfigError, match="nest deeper than 60 levels"):
        from_mapping(data)


def test_the_origin_of_each_value_is_known(tmp_path: Path) -> None:
    """File positions, variables and overrides; nothing for defaults."""
    path = written(tmp_path, "kafka:\n  brokers: a\n  source_topic: b\n")
    environ = {"DK_KAFKA__SOURCE_TOPIC": "c", "DRAKKAR_SINKS": '{"kafka": {"out": {"topic": "t"}}}'}
    loaded = load(path, environ=environ, overrides={"runtime": {"workers": 2}})
    assert loaded.origin(("kafka", "brokers")) == f"{path}:2:3"
    assert loaded.origin(("kafka", "source_topic")) == "environment variable DK_KAFKA__SOURCE_TOPIC"
    assert loaded.origin(("sinks", "kafka", "out", "topic")) == "environment variable DRAKKAR_SINKS"
    assert loaded.origin(("runtime", "workers")) == "override"
    assert loaded.origin(("runtime", "buffer_mib")) == ""


def test_values_are_final() -> None:
    """A loaded configuration can't be changed by assignment."""
    with pytest.raises(ValueError, match="frozen"):
        load_config(environ={}).kafka.brokers = "x"  # type: ignore[misc]  # frozen


def test_drain_timeout_falls_back_to_the_executors() -> None:
    """runtime.drain_timeout_s wins over executor.drain_timeout_seconds."""
    assert from_mapping({"executor": {"drain_timeout_seconds": 7}}).drain_timeout_s == 7
    assert from_mapping({"runtime": {"drain_timeout_s": 2}}).drain_timeout_s == 2
