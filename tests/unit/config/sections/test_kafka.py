"""The kafka section: its rules, and the librdkafka properties it becomes."""

from typing import Any

import pytest

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.sections.kafka import KafkaConfig, client_properties
from drakkar_flow.errors import ConfigError

SASL = {"protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "u", "sasl_password": "p"}


@pytest.mark.parametrize(
    ("kafka", "what"),
    [
        ({"client_config": {"group.id": "x"}}, "'group.id' can't be set here: it is kafka.consumer_group"),
        ({"client_config": {"enable.auto.commit": True}}, "offsets are committed only after delivery"),
        ({"client_config": {"partition.assignment.strategy": "range"}}, "needs cooperative-sticky"),
        ({"client_config": {"bootstrap.servers": "x"}}, "it is kafka.brokers"),
        ({"client_config": {"group.protocol": "x"}}, "it is kafka.group_protocol"),
        ({"client_config": {"sasl.password": "x"}}, "it is kafka.security.sasl_password"),
        ({"client_config": {"a": {}}}, "'a' must be a single value"),
        ({"client_config": {"a": None}}, "'a' must be a single value"),
        ({"source_topics": ["a", "a"]}, "a topic stands there twice"),
        ({"source_topics": [""]}, "a topic must not be empty"),
        ({"source_topic": "^(", "source_topics": ["x"]}, "'^(' is not a regular expression"),
        ({"source_topics": ["^["]}, "'^[' is not a regular expression"),
        ({"session_timeout_ms": 400_000}, "session_timeout_ms (400000) must not exceed max_poll_interval_ms (300000)"),
        ({"security": {"protocol": "SASL_SSL"}}, "protocol SASL_SSL needs sasl_mechanism"),
        ({"security": {"sasl_mechanism": "PLAIN"}}, "protocol PLAINTEXT does not log in"),
        ({"security": SASL | {"sasl_password": ""}}, "SCRAM-SHA-512 needs sasl_username and sasl_password"),
        ({"security": {"protocol": "SSL", "ssl_key_location": "k"}}, "ssl_key_location go together"),
    ],
)
def test_what_would_not_work_is_refused(kafka: dict[str, Any], what: str) -> None:
    """Reserved properties with the reason, and settings that contradict each other."""
    with pytest.raises(ConfigError) as caught:
        from_mapping({"kafka": kafka})
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.where.startswith("config kafka")


def test_the_consumer_protocol_leaves_timeouts_to_the_broker() -> None:
    """Their order matters to the classic protocol only."""
    config = from_mapping({"kafka": {"group_protocol": "consumer", "heartbeat_interval_ms": 60_000}})
    assert config.kafka.group_protocol == "consumer"


def test_several_topics_win_over_the_one() -> None:
    """And the first names the dead letter topic."""
    config = from_mapping({"kafka": {"source_topic": "a", "source_topics": ["b", "^c"]}})
    assert config.kafka.topics == ("b", "^c")
    assert config.dead_letter_topic == "b_dlq"


def test_d35_dead_letters_go_beside_the_source_unless_a_topic_is_named() -> None:
    """By default to the source's name followed by _dlq."""
    assert from_mapping({"kafka": {"source_topic": "input-events"}}).dead_letter_topic == "input-events_dlq"
    named = {"kafka": {"source_topic": "input-events"}, "dlq": {"topic": "dead"}}
    assert from_mapping(named).dead_letter_topic == "dead"


def test_plain_connections_need_nothing_but_brokers() -> None:
    """Security at its default leaves no trace."""
    assert client_properties(KafkaConfig()) == {"bootstrap.servers": "localhost:9092"}


def test_security_becomes_librdkafka_properties() -> None:
    """All that is set, in clear, and what is empty is left to librdkafka."""
    security = SASL | {"ssl_ca_location": "/ca", "ssl_endpoint_identification_algorithm": "none"}
    config = from_mapping({"kafka": {"brokers": "b:1", "security": security, "client_config": {"client.id": "x"}}})
    assert client_properties(config.kafka) == {
        "bootstrap.servers": "b:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": "/ca",
        "ssl.endpoint.identification.algorithm": "none",
        "client.id": "x",
    }


def test_a_login_without_encryption_sets_nothing_of_tls() -> None:
    """SASL_PLAINTEXT leaves the ssl properties out."""
    config = from_mapping({"kafka": {"security": SASL | {"protocol": "SASL_PLAINTEXT"}}})
    assert not [name for name in client_properties(config.kafka) if name.startswith("ssl.")]


def test_librdkafka_knows_the_properties() -> None:
    """A producer and an admin client can be made with them."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient

    security = SASL | {"ssl_endpoint_identification_algorithm": "none"}
    properties = client_properties(from_mapping({"kafka": {"brokers": "127.0.0.1:1", "security": security}}).kafka)
    quiet = properties | {"log_level": 0, "error_cb": lambda error: None}
    assert Producer(quiet) is not None
    assert AdminClient(quiet) is not None


@pytest.mark.parametrize("section", ["kafka", "sinks.kafka.out", "dlq"])
def test_n14_a_scheme_that_kafka_does_not_have_is_refused(section: str) -> None:
    """The client would wait for such a broker for ever; the protocols of listeners are fine."""
    values: dict[str, Any] = {"brokers": "kafka:9092,http://kafka:9093"}
    raw = {"kafka": {"out": {"topic": "t"} | values}} if section == "sinks.kafka.out" else values
    with pytest.raises(ConfigError, match=rf"{section}.brokers: .*http:// is no protocol of Kafka: write host:port"):
        from_mapping({section.partition(".")[0]: raw})
    assert from_mapping({"kafka": {"brokers": "ssl://kafka:9092"}}).kafka.brokers == "ssl://kafka:9092"
