"""Severity of Kafka error codes: one table of recoverable, configuration and fatal ones. Pure.

* `RECOVERABLE`: the client recovers, or a new attempt succeeds.
* `CONFIGURATION`: waiting does not help; permissions, credentials, settings or versions must change.
* `FATAL`: this client can't be used any more.

The consumer stops the flow for the last two. The producers of sinks and dead letters replace a client after a fatal
error and report the fix. Codes that a later librdkafka adds count as recoverable unless the client
calls the error fatal.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from confluent_kafka import KafkaError, KafkaException

__all__ = [
    "CONNECTION",
    "SEVERITIES",
    "Severity",
    "error_name",
    "is_tls_refusal",
    "is_token_failure",
    "report",
    "severity_of",
]


class Severity(StrEnum):
    """Consequence of an error for the client that met it."""

    RECOVERABLE = "recoverable"
    CONFIGURATION = "configuration"
    FATAL = "fatal"


_FATAL = """
    _FATAL _FENCED _GAPLESS_GUARANTEE _INCONSISTENT FENCED_INSTANCE_ID UNRELEASED_INSTANCE_ID
    INVALID_PRODUCER_EPOCH INVALID_PRODUCER_ID_MAPPING INVALID_TXN_STATE OUT_OF_ORDER_SEQUENCE_NUMBER PRODUCER_FENCED
    STREAMS_TOPOLOGY_FENCED TRANSACTION_COORDINATOR_FENCED UNKNOWN_PRODUCER_ID
"""
_CONFIGURATION = """
    _AUTHENTICATION _AUTO_OFFSET_RESET _CONFLICT _INVALID_ARG _INVALID_TYPE _NOT_CONFIGURED _NOT_IMPLEMENTED
    _UNKNOWN_PROTOCOL _UNSUPPORTED_FEATURE CLUSTER_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED
    DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_EXPIRED DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED FEATURE_UPDATE_FAILED GROUP_AUTHORIZATION_FAILED GROUP_MAX_SIZE_REACHED
    ILLEGAL_SASL_STATE INCONSISTENT_GROUP_PROTOCOL INVALID_CONFIG INVALID_GROUP_ID INVALID_PARTITIONS
    INVALID_PRINCIPAL_TYPE INVALID_REGULAR_EXPRESSION INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT
    INVALID_REQUEST INVALID_REQUIRED_ACKS INVALID_SESSION_TIMEOUT INVALID_TRANSACTION_TIMEOUT INVALID_UPDATE_VERSION
    MISMATCHED_ENDPOINT_TYPE POLICY_VIOLATION PRINCIPAL_DESERIALIZATION_FAILURE SASL_AUTHENTICATION_FAILED
    SECURITY_DISABLED STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH TOPIC_AUTHORIZATION_FAILED
    TOPIC_DELETION_DISABLED TOPIC_EXCEPTION TRANSACTIONAL_ID_AUTHORIZATION_FAILED UNACCEPTABLE_CREDENTIAL
    UNSUPPORTED_ASSIGNOR UNSUPPORTED_COMPRESSION_TYPE UNSUPPORTED_ENDPOINT_TYPE UNSUPPORTED_FOR_MESSAGE_FORMAT
    UNSUPPORTED_SASL_MECHANISM UNSUPPORTED_VERSION
"""
_RECOVERABLE = """
    NO_ERROR UNKNOWN BROKER_NOT_AVAILABLE CONCURRENT_TRANSACTIONS COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
    DUPLICATE_RESOURCE DUPLICATE_SEQUENCE_NUMBER DUPLICATE_VOTER ELECTION_NOT_NEEDED ELIGIBLE_LEADERS_NOT_AVAILABLE
    FENCED_LEADER_EPOCH FENCED_MEMBER_EPOCH FENCED_STATE_EPOCH FETCH_SESSION_ID_NOT_FOUND GROUP_ID_NOT_FOUND
    GROUP_SUBSCRIBED_TO_TOPIC ILLEGAL_GENERATION INCONSISTENT_TOPIC_ID INCONSISTENT_VOTER_SET INVALID_COMMIT_OFFSET_SIZE
    INVALID_FETCH_SESSION_EPOCH INVALID_MSG INVALID_MSG_SIZE INVALID_RECORD INVALID_RECORD_STATE INVALID_REGISTRATION
    INVALID_SHARE_SESSION_EPOCH INVALID_TIMESTAMP INVALID_VOTER_KEY KAFKA_STORAGE_ERROR LEADER_NOT_AVAILABLE
    LISTENER_NOT_FOUND LOG_DIR_NOT_FOUND MEMBER_ID_REQUIRED MSG_SIZE_TOO_LARGE NETWORK_EXCEPTION NON_EMPTY_GROUP
    NOT_CONTROLLER NOT_COORDINATOR NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND NOT_LEADER_FOR_PARTITION
    NO_REASSIGNMENT_IN_PROGRESS OFFSET_METADATA_TOO_LARGE OFFSET_NOT_AVAILABLE OFFSET_OUT_OF_RANGE
    OPERATION_NOT_ATTEMPTED PREFERRED_LEADER_NOT_AVAILABLE REASSIGNMENT_IN_PROGRESS REBALANCE_IN_PROGRESS
    REBOOTSTRAP_REQUIRED RECORD_LIST_TOO_LARGE REPLICA_NOT_AVAILABLE REQUEST_TIMED_OUT RESOURCE_NOT_FOUND
    SHARE_SESSION_LIMIT_REACHED SHARE_SESSION_NOT_FOUND STALE_BROKER_EPOCH STALE_CTRL_EPOCH STALE_MEMBER_EPOCH
    TELEMETRY_TOO_LARGE THROTTLING_QUOTA_EXCEEDED TOPIC_ALREADY_EXISTS TRANSACTION_ABORTABLE UNKNOWN_CONTROLLER_ID
    UNKNOWN_LEADER_EPOCH UNKNOWN_MEMBER_ID UNKNOWN_SUBSCRIPTION_ID UNKNOWN_TOPIC_ID UNKNOWN_TOPIC_OR_PART
    UNSTABLE_OFFSET_COMMIT VOTER_NOT_FOUND
    _ALL_BROKERS_DOWN _APPLICATION _ASSIGNMENT_LOST _ASSIGN_PARTITIONS _BAD_COMPRESSION _BAD_MSG _CRIT_SYS_RESOURCE
    _DESTROY _DESTROY_BROKER _EXISTING_SUBSCRIPTION _FAIL _FS _INTR _INVALID_DIFFERENT_RECORD _IN_PROGRESS _ISR_INSUFF
    _KEY_DESERIALIZATION _KEY_SERIALIZATION _LOG_TRUNCATION _MAX_POLL_EXCEEDED _MSG_TIMED_OUT _NODE_UPDATE _NOENT _NOOP
    _NO_OFFSET _OUTDATED _PARTIAL _PARTITION_EOF _PREV_IN_PROGRESS _PURGE_INFLIGHT _PURGE_QUEUE _QUEUE_FULL _READ_ONLY
    _RESOLVE _RETRY _REVOKE_PARTITIONS _SSL _STATE _TIMED_OUT _TIMED_OUT_QUEUE _TRANSPORT _UNDERFLOW _UNKNOWN_BROKER
    _UNKNOWN_GROUP _UNKNOWN_PARTITION _UNKNOWN_TOPIC _VALUE_DESERIALIZATION _VALUE_SERIALIZATION _WAIT_CACHE _WAIT_COORD
"""

_NAMES: Final = {
    Severity.FATAL: _FATAL.split(),
    Severity.CONFIGURATION: _CONFIGURATION.split(),
    Severity.RECOVERABLE: _RECOVERABLE.split(),
}

SEVERITIES: Final[dict[str, Severity]] = {name: severity for severity, names in _NAMES.items() for name in names}
"""The severity of every error code, by the name of its constant in `KafkaError`."""

CONNECTION: Final = frozenset(
    getattr(KafkaError, name) for name in ("_ALL_BROKERS_DOWN", "_RESOLVE", "_SSL", "_TIMED_OUT", "_TRANSPORT")
)
"""Codes of an unreachable broker."""

_RIGHTS = "grant its user the permission (ACL), or change kafka.security"
_LOGIN = "check kafka.security: sasl_mechanism, sasl_username, sasl_password, oauth_callback"
_VERSION = "upgrade the brokers, or leave out what they don't support, e.g. set kafka.group_protocol: classic"
_INSTANCE = "give every worker a kafka.group_instance_id that no other running worker has, or none"
_RESET = "set kafka.auto_offset_reset to earliest or latest, or set the group's offsets by kafka-consumer-groups.sh"

_REMEDIES: Final = {
    "FENCED_INSTANCE_ID": _INSTANCE,
    "UNRELEASED_INSTANCE_ID": f"{_INSTANCE}; after a crash, wait until the session of the old member has ended",
    "GROUP_AUTHORIZATION_FAILED": f"the client may not READ the group of kafka.consumer_group: {_RIGHTS}",
    "TOPIC_AUTHORIZATION_FAILED": f"the client may not use the topic: {_RIGHTS}",
    "CLUSTER_AUTHORIZATION_FAILED": f"the client may not act on the cluster: {_RIGHTS}",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": f"the client may not use its transactional.id: {_RIGHTS}",
    "_AUTHENTICATION": _LOGIN,
    "SASL_AUTHENTICATION_FAILED": _LOGIN,
    "UNSUPPORTED_SASL_MECHANISM": "set kafka.security.sasl_mechanism to one that the listener offers",
    "ILLEGAL_SASL_STATE": "set kafka.security.protocol to the listener's protocol",
    "UNSUPPORTED_VERSION": _VERSION,
    "_UNSUPPORTED_FEATURE": _VERSION,
    "_NOT_IMPLEMENTED": _VERSION,
    "INCONSISTENT_GROUP_PROTOCOL": "the group has members of another protocol or assignor: use one "
    "kafka.group_protocol for all of them, or another kafka.consumer_group",
    "GROUP_MAX_SIZE_REACHED": "start fewer workers, or raise the brokers' group.max.size",
    "INVALID_SESSION_TIMEOUT": "set kafka.session_timeout_ms between the brokers' group.min.session.timeout.ms and "
    "group.max.session.timeout.ms",
    "INVALID_GROUP_ID": "set kafka.consumer_group to a name that the brokers accept",
    "INVALID_REGULAR_EXPRESSION": "write the pattern in kafka.source_topics in the brokers' syntax (RE2/J)",
    "TOPIC_EXCEPTION": "a topic's name has up to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'",
    "UNSUPPORTED_COMPRESSION_TYPE": "choose another compression.type",
    "_AUTO_OFFSET_RESET": _RESET,
}

_TRUST = (
    "set kafka.security.ssl_ca_location to the authority of the brokers' certificate, and write kafka.brokers as the "
    "certificate names them"
)
_IDENTITY = "set kafka.security.ssl_certificate_location and ssl_key_location to a certificate that the brokers accept"
_PROTOCOL = "set kafka.security.protocol to the listener's protocol"
_TLS: Final = (
    (re.compile("certificate verify failed"), _TRUST),
    (re.compile(r"SSL alert number (4[2-689]|116)\b"), _IDENTITY),
    (
        re.compile(r"SSL alert number (40|47|70|71)\b|wrong version number|unsupported protocol|no shared cipher"),
        _PROTOCOL,
    ),
)
"""Texts of OpenSSL for a handshake that fails each time, and the fix."""
_MAYBE_PLAIN = "broker listener?"  # librdkafka's guess about a closed connection: a proxy closes it too


def severity_of(error: KafkaError) -> Severity:
    """Return the severity of an error; an error that the client calls fatal is fatal, whatever its code.

    >>> severity_of(KafkaError(KafkaError.FENCED_INSTANCE_ID)).value
    'fatal'
    """
    if error.fatal():
        return Severity.FATAL
    if is_token_failure(error):
        return Severity.RECOVERABLE
    return SEVERITIES.get(error.name(), Severity.RECOVERABLE)


def is_tls_refusal(error: KafkaError) -> bool:
    """True if a TLS handshake failed for a permanent cause: certificate, protocol or cipher.

    A running client keeps trying: other brokers may work, and certificates are replaced one by one.

    >>> is_tls_refusal(KafkaError(KafkaError._SSL, "SSL routines::certificate verify failed: broker certificate"))
    True
    >>> is_tls_refusal(KafkaError(KafkaError._TRANSPORT, "SSL handshake failed: Disconnected"))
    False
    """
    return bool(_tls_remedy(error.str()))


def _tls_remedy(text: str) -> str:
    return next((remedy for pattern, remedy in _TLS if pattern.search(text)), "")


def is_token_failure(error: KafkaError) -> bool:
    """True if no OAuth token was available: the client asks again after 10 s."""
    return error.name() == "_AUTHENTICATION" and "acquire SASL OAUTHBEARER token" in error.str()


def error_name(error: KafkaError) -> str:
    """The name of an error's code; of a fatal error that of its cause, which the client gives only as text.

    >>> text = "Fatal error: Broker: The instance ID is still used by another member in the consumer group: heartbeat"
    >>> error_name(KafkaError(KafkaError._FATAL, text))
    'UNRELEASED_INSTANCE_ID'
    """
    if error.name() != "_FATAL":
        return error.name()
    text = error.str()
    found = (name for name in SEVERITIES if name != "_FATAL" and _TEXTS.get(name, text + " ") in text)
    return max(found, key=lambda name: len(_TEXTS[name]), default="_FATAL")


def report(error: KafkaError | BaseException) -> str:
    """Return an error's text for people, with the fix if one is known.

    >>> report(KafkaError(KafkaError.GROUP_MAX_SIZE_REACHED))
    "Broker: Consumer group has reached maximum size; start fewer workers, or raise the brokers' group.max.size"
    """
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        error = error.args[0]
    if not isinstance(error, KafkaError):
        return str(error) or type(error).__name__
    text = error.str().removeprefix("Fatal error: ")
    remedy = _tls_remedy(text) or (_PROTOCOL if _MAYBE_PLAIN in text else _REMEDIES.get(error_name(error)))
    return f"{text}; {remedy}" if remedy else text


_TEXTS: Final = {
    name: text
    for name in SEVERITIES
    if hasattr(KafkaError, name) and len(text := KafkaError(getattr(KafkaError, name)).str()) > len("Broker: ")
}
"""The client's description of each code."""
