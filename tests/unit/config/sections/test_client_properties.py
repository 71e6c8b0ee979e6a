"""librdkafka properties in client_config: wrong ones are found where they stand, before anything connects."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from drakkar_flow.config.loading.client_properties import value_problem
from drakkar_flow.config.loading.load import from_mapping, load, load_config
from drakkar_flow.config.sections.client_properties import problem_of
from drakkar_flow.config.sections.kafka import KafkaConfig
from drakkar_flow.engine.startup import check_source
from drakkar_flow.errors import ConfigError, StartupError

WRONG = """
kafka:
  source_topic: in
  client_config:
    sasl.pasword: hunter2
    fetch_min_bytes: 5
sinks:
  kafka:
    out:
      topic: out
      client_config: {compresion.type: gzip, message.timeout.ms: 5}
dlq:
  client_config:
    lingr.ms: 5
"""


def test_g14_wrong_properties_are_named_with_their_place(tmp_path: Path) -> None:
    """In every section that has any, all at once, with what was meant and never with a value."""
    file = tmp_path / "drakkar.yaml"
    file.write_text(WRONG)
    with pytest.raises(ConfigError) as caught:
        load(file)
    said = [str(problem).removeprefix(str(file)) for problem in caught.value.problems]
    owned = "'message.timeout.ms' can't be set here: it is a sink's delivery_timeout_s; dead letters have 30 s"
    unknown = "unknown librdkafka property; did you mean"
    assert said == [
        f":5:5 kafka.client_config.sasl.pasword: {unknown} 'sasl.password'? it is kafka.security.sasl_password",
        f":6:5 kafka.client_config.fetch_min_bytes: {unknown} 'fetch.min.bytes'?",
        f":11:23 sinks.kafka.out.client_config.compresion.type: {unknown} 'compression.type'?",
        f":11:46 sinks.kafka.out.client_config.message.timeout.ms: {owned}",
        f":14:5 dlq.client_config.lingr.ms: {unknown} 'linger.ms'?",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("oauth_cb", "it is kafka.security.oauth_callback"),
        ("sasl.jaas.config", "a property of the Java client: use security.sasl_username"),
        ("max.poll.records", "it is kafka.max_poll_records"),
        ("enable.auto.commit", "offsets are committed only after delivery"),
        ("transactional.id", "sinks write without transactions"),
        ("nonsense", "see librdkafka's CONFIGURATION.md"),
        ("fetch.min.bytes", ""),
    ],
)
def test_each_property_has_one_place(name: str, said: str) -> None:
    """What we own names its key, what nobody knows says so."""
    found = problem_of(name)
    assert said in found
    assert bool(said) is bool(found)


@pytest.mark.parametrize("section", ["kafka", "dlq"])
def test_what_is_no_single_value_is_refused(section: str) -> None:
    """librdkafka takes text and numbers."""
    with pytest.raises(ConfigError, match=r"'client.id' must be a single value"):
        from_mapping({section: {"client_config": {"client.id": ["x"]}}})


@pytest.mark.parametrize("properties", [{"fetch.min.bytes": "many"}, {"fetch.min.bytes": -1}])
def test_g14_values_that_librdkafka_refuses_end_the_start(properties: dict[str, Any]) -> None:
    """As configuration errors, before a broker is asked."""
    kafka = KafkaConfig(brokers="127.0.0.1:1", client_config=properties)
    with pytest.raises(StartupError, match=r"kafka.client_config: .*fetch.min.bytes") as caught:
        check_source(kafka, print)
    assert caught.value.exit_code == 2


def test_every_property_of_the_installed_library_is_known(tmp_path: Path) -> None:
    """As the library lists them itself."""
    listed = tmp_path / "listed"
    (library,) = set(Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka-*"))
    rdkafka, libc = ctypes.CDLL(str(library)), ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(str(listed).encode(), b"w"))
    rdkafka.rd_kafka_conf_properties_show(file)
    libc.fclose(file)
    rows = [line.split("|") for line in listed.read_text().splitlines() if line[:1].islower()]
    names = {row[0].strip() for row in rows if "see dedicated API" not in row[-1]}
    assert len(names) > 150
    assert {name for name in names if problem_of(name).startswith("unknown")} == set()


VALUES = """\
kafka:
  brokers: b:1
  client_config:
    socket.timeout.ms: 10 s
    socket.keepalive.enable: yess
sinks:
  kafka:
    out:
      topic: out
      client_config: {linger.ms: often, acks: 0, compression.type: zip, batch.size: -1}
dlq:
  client_config:
    acks: some
"""


def test_values_that_librdkafka_refuses_are_found_where_they_stand(tmp_path: Path) -> None:
    """All of them at once, each with line, key and what it takes; a unit that would be dropped too."""
    file = tmp_path / "job.yaml"
    file.write_text(VALUES)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    out = f"{file}:10:23 sinks.kafka.out.client_config"
    assert [re.sub(r":10:\d+", ":10:23", str(problem)) for problem in caught.value.problems] == [
        f"{file}:4:5 kafka.client_config.socket.timeout.ms: must be a number, not '10 s'",
        f"{file}:5:5 kafka.client_config.socket.keepalive.enable: must be true or false, not 'yess'",
        f"{file}:13:5 dlq.client_config.acks: must be all or a number of replicas, not 'some'",
        f"{out}.linger.ms: must be a number, not 'often'",
        f"{out}.acks: with acks 0 no broker acknowledges anything; leave it out, or set it to all",
        f"{out}.compression.type: must be one of the values in librdkafka's CONFIGURATION.md, not 'zip'",
        f"{out}.batch.size: must be between 1 and 2147483647, not -1",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("linger.ms", 0.5), ("linger.ms", "5"), ("acks", "all"), ("acks", -1), ("client.id", "1abc")),
        *(("broker.version.fallback", "0.10.0"), ("socket.keepalive.enable", True), ("client.rack", "3a")),
        *(("sasl.oauthbearer.method", "oidc"), ("ssl.key.pem", "no key"), ("debug", "broker,topic")),
    ],
)
def test_values_that_librdkafka_takes_are_left_alone(name: str, value: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Numbers as text, names that begin with a digit, what only makes sense with others. Nothing is logged."""
    assert value_problem(name, value) == ""
    assert from_mapping({"kafka": {"client_config": {name: value}}}).kafka.client_config == {name: value}
    assert capfd.readouterr() == ("", "")


def test_a_secret_is_not_shown_for_its_wrong_value() -> None:
    """Its name is enough."""
    assert "hunter2" not in value_problem("enable.sasl.oauthbearer.unsecure.jwt", "hunter2")
