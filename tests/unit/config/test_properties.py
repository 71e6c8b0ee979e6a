"""librdkafka properties in client_config: wrong ones are found where they stand, before anything connects."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from drakkar_flow.config.kafka import KafkaConfig
from drakkar_flow.config.load import from_mapping, load
from drakkar_flow.config.properties import problem_of
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
