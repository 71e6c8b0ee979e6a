"""Every error code of the installed client library has a severity."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from drakkar_flow.kernel.kafka_errors import SEVERITIES, Severity, error_name, report, severity_of

CODES = {name for name in dir(KafkaError) if name.strip("_").isupper() and isinstance(getattr(KafkaError, name), int)}


def test_f2_every_code_of_the_installed_library_is_classified() -> None:
    """And the table has no name that means nothing."""
    assert len(CODES) > 150
    assert CODES - SEVERITIES.keys() == set()
    assert SEVERITIES.keys() - CODES == set()


@pytest.mark.parametrize(
    "name",
    ["_FATAL", "FENCED_INSTANCE_ID", "UNRELEASED_INSTANCE_ID", "GROUP_AUTHORIZATION_FAILED", "_AUTHENTICATION",
     "TOPIC_AUTHORIZATION_FAILED", "SASL_AUTHENTICATION_FAILED", "GROUP_MAX_SIZE_REACHED", "UNSUPPORTED_VERSION",
     "INCONSISTENT_GROUP_PROTOCOL", "UNSUPPORTED_SASL_MECHANISM", "INVALID_SESSION_TIMEOUT", "_AUTO_OFFSET_RESET"],
)  # fmt: skip
def test_what_no_waiting_helps_is_not_recoverable(name: str) -> None:
    """And has a remedy, but for what is fatal for reasons of its own."""
    error = KafkaError(getattr(KafkaError, name))
    assert severity_of(error) is not Severity.RECOVERABLE
    assert name == "_FATAL" or "; " in report(error)


@pytest.mark.parametrize(
    "name", ["_ALL_BROKERS_DOWN", "_TRANSPORT", "REBALANCE_IN_PROGRESS", "UNKNOWN_TOPIC_OR_PART", "_MAX_POLL_EXCEEDED"]
)
def test_what_passes_is_recoverable(name: str) -> None:
    """The client gets over it by itself."""
    assert severity_of(KafkaError(getattr(KafkaError, name))) is Severity.RECOVERABLE


def test_what_the_client_calls_fatal_is_fatal() -> None:
    """Whatever its code, one that nobody knows included."""
    assert severity_of(KafkaError(KafkaError._TRANSPORT, "gone", True)) is Severity.FATAL
    assert severity_of(KafkaError(12345, "new")) is Severity.RECOVERABLE
    assert severity_of(KafkaError(12345, "new", True)) is Severity.FATAL


def test_a_fatal_error_is_reported_by_its_cause() -> None:
    """Without a representation of Python's."""
    text = f"Fatal error: {KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()}: heartbeat"
    error = KafkaError(KafkaError._FATAL, text)
    assert error_name(error) == "UNRELEASED_INSTANCE_ID"
    assert "kafka.group_instance_id" in report(KafkaException(error))
    assert "KafkaError{" not in report(KafkaException(error))
    assert error_name(KafkaError(KafkaError._FATAL, "Fatal error: nobody knows")) == "_FATAL"


def test_a_token_that_could_not_be_had_is_asked_for_again() -> None:
    """The server of tokens may be down for a moment; a refused login is no such thing."""
    text = "Failed to acquire SASL OAUTHBEARER token: down"
    assert severity_of(KafkaError(KafkaError._AUTHENTICATION, text)) is Severity.RECOVERABLE
    assert severity_of(KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error")) is Severity.CONFIGURATION
