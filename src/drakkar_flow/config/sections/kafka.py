"""The `kafka` section: the brokers, the source topics and the consumer group."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from drakkar_flow.config.base import NO_PAGE, Section
from drakkar_flow.config.sections.client_properties import ClientConfig
from drakkar_flow.config.sections.tokens import TokenCallback

__all__ = [
    "BrokerList",
    "KafkaConfig",
    "KafkaSecurityConfig",
    "check_tokens",
    "client_properties",
    "security_properties",
]


Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class KafkaSecurityConfig(Section):
    """Encryption of connections to the brokers, and login."""

    protocol: Protocol = "PLAINTEXT"
    """The protocol the brokers' listener speaks."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"] = ""
    """Login mechanism; required with the SASL protocols."""
    sasl_username: str = ""
    """User name for PLAIN and SCRAM."""
    sasl_password: SecretStr = SecretStr("")
    """Password for PLAIN and SCRAM."""
    oauth_callback: str = ""
    """Import path `package.module:function` of the function that gets tokens for OAUTHBEARER: it takes the text of
    client_config's `sasl.oauthbearer.config` and returns the token and its expiry in seconds since 1970."""
    ssl_ca_location: str = ""
    """File or directory with the CA certificates; empty takes the system's."""
    ssl_certificate_location: str = ""
    """File with our certificate (PEM)."""
    ssl_key_location: str = ""
    """File with our private key (PEM)."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of the private key."""
    ssl_endpoint_identification_algorithm: Literal["https", "none"] = "https"
    """Requires that the broker's certificate names the connected host."""

    @field_validator("sasl_mechanism", "ssl_endpoint_identification_algorithm", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: object, info: ValidationInfo) -> object:
        return cls.model_fields[str(info.field_name)].default if value is None else value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sasl = self.protocol.startswith("SASL_")
        if sasl and not self.sasl_mechanism:
            raise ValueError(f"protocol {self.protocol} needs sasl_mechanism")
        if self.sasl_mechanism and not sasl:
            raise ValueError(f"sasl_mechanism is set, but protocol {self.protocol} does not log in; use SASL_SSL")
        if self.sasl_mechanism.startswith(("PLAIN", "SCRAM")) and not (
            self.sasl_username and self.sasl_password.get_secret_value()
        ):
            raise ValueError(f"sasl_mechanism {self.sasl_mechanism} needs sasl_username and sasl_password")
        if self.oauth_callback and self.sasl_mechanism != "OAUTHBEARER":
            raise ValueError("oauth_callback is set, but sasl_mechanism is not OAUTHBEARER")
        if bool(self.ssl_certificate_location) != bool(self.ssl_key_location):
            raise ValueError("ssl_certificate_location and ssl_key_location go together")
        return self


def check_brokers(brokers: str) -> str:
    """Refuse schemes that Kafka does not have: the client would wait for such brokers forever.

    >>> check_brokers("kafka-1:9092,SSL://kafka-2:9093")
    'kafka-1:9092,SSL://kafka-2:9093'
    """
    for broker in brokers.split(","):
        scheme, found, _ = broker.strip().partition("://")
        if found and scheme.upper() not in get_args(Protocol):
            raise ValueError(f"{scheme}:// is no protocol of Kafka: write host:port")
    return brokers


BrokerList = Annotated[str, AfterValidator(check_brokers)]
"""Bootstrap servers, `host:port` separated by commas."""


class KafkaConfig(Section):
    """The source of records."""

    brokers: BrokerList = Field(default="localhost:9092", min_length=1)
    """Bootstrap servers, `host:port` separated by commas."""
    source_topic: str = Field(default="input-events", min_length=1)
    """The topic read; one that starts with `^` is a regular expression. A run refuses to start when neither this, nor
    source_topics, nor the flow names one: the default is for tests."""
    source_topics: list[str] = []
    """Several topics to read, instead of source_topic; one that starts with `^` is a regular expression."""
    consumer_group: str = Field(default="drakkar-workers", min_length=1)
    """The consumer group, which shares the partitions and owns the committed offsets. A run refuses to start without
    it: the default is for tests."""
    max_poll_records: int = Field(default=100, ge=1, le=1_000_000)
    """The most records taken from the consumer per call."""
    max_poll_interval_ms: int = Field(default=300_000, ge=1, le=86_400_000)
    """Milliseconds without a poll after which the group takes our partitions away."""
    session_timeout_ms: int = Field(default=45_000, ge=1, le=3_600_000)
    """Milliseconds without a heartbeat after which the group takes our partitions away (group_protocol classic)."""
    heartbeat_interval_ms: int = Field(default=500, ge=1, le=3_600_000)
    """Milliseconds between two heartbeats (group_protocol classic). A partition that moves waits for the next one."""
    auto_offset_reset: Literal["earliest", "latest", "error", "none"] = "earliest"
    """Start of a new group: at the `earliest` record or after the `latest` one. Partitions that are added later
    are read from their beginning. With `error` (or `none`) a partition without a valid committed offset stops the
    flow."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """The group protocol: `consumer` is KIP-848 and needs brokers of version 4."""
    group_instance_id: str = ""
    """Name of this member for static membership: a restart within the session timeout moves no partition."""
    metadata_refresh_s: float = Field(default=10.0, gt=0, le=3_600)
    """Seconds between two looks for new partitions and for new topics that match."""
    startup_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds the brokers have to answer at the start."""
    startup_align_enabled: bool = False
    """Begins reading at a common wall-clock time, so that workers started together join the group together.

    Off unlike in py-drakkar: a member that joins later takes only its own partitions from the others, which drain them,
    so waiting 4 to 14 seconds at each start gains nothing.
    """
    startup_min_wait_seconds: float = Field(default=4.0, ge=0)
    """The least wait before that time."""
    startup_align_interval_seconds: int = Field(default=10, ge=1)
    """The common time is a multiple of this number of seconds since 1970."""
    client_config: ClientConfig = {}
    """Further librdkafka properties, for all clients."""
    security: KafkaSecurityConfig = KafkaSecurityConfig()
    """Encryption and login."""
    ui_url: Annotated[str, NO_PAGE] = ""
    """A Kafka UI, for links."""
    ui_cluster_name: Annotated[str, NO_PAGE] = ""
    """The cluster's name there."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to subscribe to: source_topics, or the one source_topic.

        >>> KafkaConfig(source_topics=["a", "^b-.*"]).topics
        ('a', '^b-.*')
        """
        return tuple(self.source_topics) or (self.source_topic,)

    @field_validator("source_topics")
    @classmethod
    def _distinct(cls, topics: list[str]) -> list[str]:
        if not all(topics):
            raise ValueError("a topic must not be empty")
        if len(set(topics)) < len(topics):
            raise ValueError("a topic stands there twice")
        return topics

    @field_validator("source_topic", "source_topics")
    @classmethod
    def _patterns_compile(cls, value: str | list[str]) -> str | list[str]:
        for topic in [value] if isinstance(value, str) else value:
            if topic.startswith("^"):
                _check_pattern(topic)
        return value

    @model_validator(mode="after")
    def _timeouts_in_order(self) -> Self:
        check_tokens(self.security, self.client_config)
        if self.group_protocol == "classic":
            if self.heartbeat_interval_ms >= self.session_timeout_ms:
                raise ValueError(
                    f"heartbeat_interval_ms ({self.heartbeat_interval_ms}) must be below "
                    f"session_timeout_ms ({self.session_timeout_ms}), best a third of it"
                )
            if self.session_timeout_ms > self.max_poll_interval_ms:
                raise ValueError(
                    f"session_timeout_ms ({self.session_timeout_ms}) must not exceed "
                    f"max_poll_interval_ms ({self.max_poll_interval_ms})"
                )
        return self


def check_tokens(security: KafkaSecurityConfig, properties: Mapping[str, Any]) -> None:
    """Refuse OAUTHBEARER without a source of tokens.

    Raises:
        ValueError: there is neither `oauth_callback` nor a method of librdkafka's own in `client_config`.
    """
    own = "sasl.oauthbearer.method" in properties or "enable.sasl.oauthbearer.unsecure.jwt" in properties
    if security.sasl_mechanism == "OAUTHBEARER" and not security.oauth_callback and not own:
        raise ValueError(
            "sasl_mechanism OAUTHBEARER needs security.oauth_callback, the import path 'package.module:function' of a "
            "function that returns a token and its expiry, or sasl.oauthbearer.method: oidc in client_config"
        )


def client_properties(kafka: KafkaConfig) -> dict[str, Any]:
    """The librdkafka properties that consumers, producers and admin clients share, secrets in clear.

    They are the brokers, the security settings and `client_config`; keys with their default are left out.

    >>> client_properties(KafkaConfig(brokers="kafka:9092", client_config={"socket.keepalive.enable": True}))
    {'bootstrap.servers': 'kafka:9092', 'socket.keepalive.enable': True}
    """
    return {"bootstrap.servers": kafka.brokers, **security_properties(kafka.security), **kafka.client_config}


def security_properties(security: KafkaSecurityConfig) -> dict[str, Any]:
    """The librdkafka properties of encryption and login, secrets in clear; nothing for plain connections.

    Raises:
        StartupError: `oauth_callback` can't be imported; exit code 2.
    """
    if security.protocol == "PLAINTEXT":
        return {}
    properties: dict[str, Any] = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.sasl_mechanism,
        "sasl.username": security.sasl_username,
        "sasl.password": security.sasl_password.get_secret_value(),
    }
    if security.protocol.endswith("SSL"):
        properties |= {
            "ssl.ca.location": security.ssl_ca_location,
            "ssl.certificate.location": security.ssl_certificate_location,
            "ssl.key.location": security.ssl_key_location,
            "ssl.key.password": security.ssl_key_password.get_secret_value(),
            "ssl.endpoint.identification.algorithm": security.ssl_endpoint_identification_algorithm,
        }
    if security.oauth_callback:
        properties["oauth_cb"] = TokenCallback(security.oauth_callback)
    return {name: value for name, value in properties.items() if value}


def _check_pattern(topic: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(topic)
        except re.error as error:
            raise ValueError(f"{topic!r} is not a regular expression: {error}") from None
