"""librdkafka properties in `client_config`: the known ones, and those with a separate key or set by the library."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator

__all__ = ["OWNED", "ClientConfig", "ProducerConfig", "problem_of"]

_LIST = """
    acks allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    auto.commit.enable auto.commit.interval.ms auto.offset.reset batch.num.messages batch.size bootstrap.servers
    broker.address.family broker.address.ttl broker.version.fallback check.crcs client.dns.lookup client.id
    client.rack compression.codec compression.level compression.type connections.max.idle.ms
    consume.callback.max.messages coordinator.query.interval.ms debug delivery.report.only.error
    delivery.timeout.ms enable.auto.commit enable.auto.offset.store enable.gapless.guarantee enable.idempotence
    enable.metrics.push enable.partition.eof enable.random.seed enable.sasl.oauthbearer.unsecure.jwt
    enable.ssl.certificate.verification enabled_events fetch.error.backoff.ms fetch.max.bytes
    fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms group.id group.instance.id
    group.protocol group.protocol.type group.remote.assignor heartbeat.interval.ms https.ca.location
    https.ca.pem internal.termination.signal isolation.level linger.ms log.connection.close log.queue
    log.thread.name log_level max.in.flight max.in.flight.requests.per.connection max.partition.fetch.bytes
    max.poll.interval.ms max.poll.records message.copy.max.bytes message.max.bytes message.send.max.retries
    message.timeout.ms metadata.broker.list metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms
    metadata.recovery.strategy offset.store.method offset.store.path offset.store.sync.interval.ms
    partition.assignment.strategy partitioner plugin.library.paths produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queued.max.messages.kbytes queued.min.messages queuing.strategy
    receive.message.max.bytes reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms
    request.required.acks request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab
    sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal
    sasl.kerberos.service.name sasl.mechanism sasl.mechanisms sasl.oauthbearer.assertion.algorithm
    sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds
    sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include
    sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub
    sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.jwt.template.file
    sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.private.key.passphrase
    sasl.oauthbearer.assertion.private.key.pem sasl.oauthbearer.client.credentials.client.id
    sasl.oauthbearer.client.credentials.client.secret sasl.oauthbearer.client.id sasl.oauthbearer.client.secret
    sasl.oauthbearer.config sasl.oauthbearer.extensions sasl.oauthbearer.grant.type
    sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method sasl.oauthbearer.scope
    sasl.oauthbearer.sub.claim.name sasl.oauthbearer.token.endpoint.url sasl.password sasl.username
    security.protocol session.timeout.ms share.acknowledgement.mode socket.blocking.max.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.certificate.stores
    ssl.ca.location ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location
    ssl.curves.list ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location
    ssl.key.password ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list
    statistics.interval.ms sticky.partitioning.linger.ms topic.blacklist topic.metadata.propagation.max.ms
    topic.metadata.refresh.fast.cnt topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms
    topic.metadata.refresh.sparse transaction.timeout.ms transactional.id
"""
_NAMES: Final = frozenset(_LIST.split())
"""The properties of librdkafka 2.16 that have a value; a later version is asked for missing ones."""

_COMMITS = "offsets are committed only after delivery"
_SHARED: Final = {
    "security.protocol": "it is {0}security.protocol",
    "sasl.mechanism": "it is {0}security.sasl_mechanism",
    "sasl.mechanisms": "it is {0}security.sasl_mechanism",
    "sasl.username": "it is {0}security.sasl_username",
    "sasl.password": "it is {0}security.sasl_password",
    "ssl.ca.location": "it is {0}security.ssl_ca_location",
    "ssl.certificate.location": "it is {0}security.ssl_certificate_location",
    "ssl.key.location": "it is {0}security.ssl_key_location",
    "ssl.key.password": "it is {0}security.ssl_key_password",
    "ssl.endpoint.identification.algorithm": "it is {0}security.ssl_endpoint_identification_algorithm",
    "oauth_cb": "it is {0}security.oauth_callback, the import path of a function, 'package.module:function'",
    "bootstrap.servers": "it is {0}brokers",
    "metadata.broker.list": "it is {0}brokers",
    "error_cb": "errors are logged as consumer_error",
    "stats_cb": "statistics are on the metrics page",
    "throttle_cb": "it takes a function",
    "on_commit": _COMMITS,
    "on_delivery": "it takes a function",
    "logger": "the log is set up by logging",
    "default.topic.config": "write its properties here",
}
OWNED: Final = {
    **{name: text.format("kafka.") for name, text in _SHARED.items()},
    "group.id": "it is kafka.consumer_group",
    "group.instance.id": "it is kafka.group_instance_id",
    "group.protocol": "it is kafka.group_protocol",
    "auto.offset.reset": "it is kafka.auto_offset_reset",
    "max.poll.interval.ms": "it is kafka.max_poll_interval_ms",
    "session.timeout.ms": "it is kafka.session_timeout_ms",
    "heartbeat.interval.ms": "it is kafka.heartbeat_interval_ms",
    "topic.metadata.refresh.interval.ms": "it is kafka.metadata_refresh_s",
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "partition.assignment.strategy": "handing over partitions without loss needs cooperative-sticky",
    "enable.partition.eof": "the source decides it",
    "transactional.id": "sinks write without transactions",
    "max.poll.records": "it is kafka.max_poll_records",
}
"""Properties that `kafka.client_config` refuses, and why."""
_PRODUCER: Final = {
    **{name: text.format("") for name, text in _SHARED.items()},
    "group.id": "a producer has no group",
    "enable.auto.commit": "a producer commits nothing",
    "delivery.report.only.error": "delivery is known by reports of errors only",
    "message.timeout.ms": "it is a sink's delivery_timeout_s; dead letters have 30 s",
    "delivery.timeout.ms": "it is a sink's delivery_timeout_s; dead letters have 30 s",
    "transactional.id": "sinks write without transactions",
}
_JAVA: Final = {
    "sasl.jaas.config": "security.sasl_username and security.sasl_password",
    "ssl.truststore.location": "security.ssl_ca_location",
    "ssl.truststore.type": "security.ssl_ca_location",
    "sasl.login.callback.handler.class": "security.oauth_callback",
    "sasl.client.callback.handler.class": "security.oauth_callback",
    "max.block.ms": "delivery_timeout_s",
}
"""Properties of the Java clients and the key that stands for them."""


def problem_of(name: str, *, producer: bool = False) -> str:
    """Reason why a property can't be set in `client_config`, and its key instead; empty if it can.

    >>> problem_of("fetch.min.bytes")
    ''
    >>> problem_of("sasl.pasword")
    "unknown librdkafka property; did you mean 'sasl.password'? it is kafka.security.sasl_password"
    """
    owned = _PRODUCER if producer else OWNED
    if name in owned:
        return f"{name!r} can't be set here: {owned[name]}"
    if name in _JAVA:
        return f"a property of the Java client: use {_JAVA[name]}"
    if name in _NAMES or _is_known(name):
        return ""
    near = difflib.get_close_matches(name.lower().replace("_", "."), {*_NAMES, *owned}, n=1, cutoff=0.75)
    if not near:
        return "unknown librdkafka property; see librdkafka's CONFIGURATION.md"
    elsewhere = f" {owned[near[0]]}" if near[0] in owned else ""
    return f"unknown librdkafka property; did you mean {near[0]!r}?{elsewhere}"


def _is_known(name: str) -> bool:
    """True if the installed librdkafka has a property that this list lacks."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({name: "?"})
    except (KafkaException, TypeError, ValueError) as error:
        return "No such configuration property" not in str(error)
    return True


def _check(name: str) -> str:
    if problem := problem_of(name):
        raise ValueError(problem)
    return name


def _check_for_producers(name: str) -> str:
    if problem := problem_of(name, producer=True):
        raise ValueError(problem)
    return name


def _single_values(properties: Any) -> Any:
    if isinstance(properties, dict):
        nested = [name for name, value in properties.items() if not isinstance(value, str | int | float)]
        if nested:
            raise ValueError("; ".join(f"{name!r} must be a single value" for name in nested))
    return properties


ClientConfig = Annotated[dict[Annotated[str, AfterValidator(_check)], Any], BeforeValidator(_single_values)]
"""librdkafka properties for all clients."""
ProducerConfig = Annotated[
    dict[Annotated[str, AfterValidator(_check_for_producers)], Any], BeforeValidator(_single_values)
]
"""librdkafka properties for a producer."""
