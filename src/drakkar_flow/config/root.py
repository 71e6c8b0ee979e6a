"""The whole configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import PrivateAttr, field_validator, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.config_file import ConfigFile
from drakkar_flow.config.loops import check_loops, same_topic_notices
from drakkar_flow.config.redact import secrets_in
from drakkar_flow.config.sections.cache import CacheConfig
from drakkar_flow.config.sections.debug import DebugConfig
from drakkar_flow.config.sections.executor import ExecutorConfig, ProgramConfig
from drakkar_flow.config.sections.kafka import KafkaConfig
from drakkar_flow.config.sections.observe import LoggingConfig, MetricsConfig
from drakkar_flow.config.sections.offload import OffloadConfig
from drakkar_flow.config.sections.runtime import RuntimeConfig
from drakkar_flow.config.sections.sinks import DlqConfig, SinksConfig
from drakkar_flow.config.unused_keys import Place, unused_alignment_notices, unused_key_notices, unused_recorder_notices
from drakkar_flow.errors import Problem
from drakkar_flow.kernel.redaction import Redactor, is_sensitive
from drakkar_flow.kinds.registry import EXECUTORS, SINKS

__all__ = ["DrakkarConfig"]

if TYPE_CHECKING:
    _App = Any  # a mapping, or an instance of a model that only the user's checker could know
else:
    _App = dict[str, Any]


class DrakkarConfig(Section):  # noqa: PLW1641 - holds mappings, which have no hash
    """The configuration of a worker; read with `load_config`."""

    worker_name_env: str = "WORKER_ID"
    """Environment variable that holds this worker's name."""
    cluster_name: str = ""
    """Name of the group of workers this one belongs to."""
    cluster_name_env: str = ""
    """Environment variable that, when set, holds the cluster name instead."""
    kafka: KafkaConfig = KafkaConfig()
    """The source of records."""
    executor: ExecutorConfig = ExecutorConfig()
    """The default executor of external programs."""
    executors: dict[str, ProgramConfig] = {}
    """Further executors by name, beside `executor`: a task chooses one by `ExecutorTask(executor="name")`."""
    offload: OffloadConfig = OffloadConfig()
    """The threads for what a handler computes itself."""
    sinks: SinksConfig = SinksConfig()
    """The targets of results."""
    dlq: DlqConfig = DlqConfig()
    """The dead letter topic and the brake."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Bounds and rhythms of the running flow."""
    metrics: MetricsConfig = MetricsConfig()
    """The Prometheus endpoint."""
    logging: LoggingConfig = LoggingConfig()
    """Level, format and output of log lines."""
    debug: DebugConfig = DebugConfig()
    """The flight recorder, and the operators' web page."""
    cache: CacheConfig = CacheConfig()
    """The cache of values by key, in memory and on disk."""
    app: _App = {}
    """User-defined settings: an instance of the handler's `app_config_model`, else the mapping of the file."""
    _notices: tuple[Problem, ...] | None = PrivateAttr(default=None)
    _file: ConfigFile | None = PrivateAttr(default=None)
    _secret_variables: dict[str, str] = PrivateAttr(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """True if all values are equal; their origin does not matter."""
        return type(self) is type(other) and dict(self) == dict(other)

    @property
    def notices(self) -> tuple[Problem, ...]:
        """Notices of the configuration: moved keys and keys without effect.

        >>> print(*DrakkarConfig(debug={"enabled": True, "port": 8090}).notices)
        debug.port: accepted, but there is no web page in this version to show it; it has no effect
        """
        if self._notices is not None:
            return self._notices
        return self.collect_notices(lambda path: ".".join(map(str, path)))

    def collect_notices(self, where: Callable[[Place], str]) -> tuple[Problem, ...]:
        """A notice per key that has no effect, per topic both read and written, and per plug-in that is not usable.

        `where` says where a path stands.
        """
        notices = (*unused_key_notices(self, where), *unused_alignment_notices(self.kafka.model_fields_set, where))
        notices += tuple(unused_recorder_notices(self.debug.model_fields_set, where))
        notices += (*SINKS.broken().values(), *EXECUTORS.broken().values())
        if not all(isinstance(section, Section) for section in (self.kafka, self.sinks, self.dlq)):
            return notices  # on_startup assigned a mapping, which is validated next
        return (*notices, *same_topic_notices(self.kafka, self.sinks, self.dead_letter_topic, where))

    @property
    def file(self) -> ConfigFile | None:
        """The file it was read from, or where one was looked for; None when it was given as values."""
        return self._file

    def noted(
        self,
        notices: Sequence[Problem],
        file: ConfigFile | None = None,
        secret_variables: Mapping[str, str] | None = None,
    ) -> Self:
        """Return this configuration with the notices of its loading."""
        self._notices = tuple(notices) or None
        self._file = file
        self._secret_variables = dict(secret_variables or {})
        return self

    @property
    def secret_variables(self) -> Mapping[str, str]:
        """The environment variables that secrets were taken from by `${NAME}`, with their values."""
        return self._secret_variables

    @property
    def redactor(self) -> Redactor:
        """Masks the secrets of this configuration, and what looks like one, in any text.

        >>> config = DrakkarConfig(sinks={"redis": {"a": {"url": "redis://:hunter2@localhost/0"}}})
        >>> config.redactor("AUTH hunter2 failed")
        'AUTH ******** failed'
        """
        named = [value for name, value in self._secret_variables.items() if is_sensitive(name)]
        return Redactor([*secrets_in(self), *named])

    def withheld_variables(self, environ: Mapping[str, str], program: ProgramConfig | None = None) -> list[str]:
        """The names in `environ` that programs of an executor do not inherit with `env_inherit: safe`.

        >>> DrakkarConfig().withheld_variables({"PATH": "/bin", "DB_PASS": "x", "STORE": "http://joe:pw@host"})
        ['DB_PASS', 'STORE']
        """
        program = program or self.executor
        if program.inherits != "safe":
            return []
        kept = program.inherited(environ, self.redactor.is_secret)
        return sorted(name for name in environ if name not in kept or name in self._secret_variables)

    def replaced(self, **sections: Any) -> Self:
        """The configuration with other sections, checked as a whole again.

        Raises:
            ValidationError: they don't fit the rest.
        """
        return type(self)(**{**dict(self), **sections}).noted(self._notices or (), self.file, self.secret_variables)

    @property
    def dead_letter_topic(self) -> str:
        """The topic dead letters go to: dlq.topic, or the (first) source topic followed by `_dlq`.

        >>> DrakkarConfig().dead_letter_topic
        'input-events_dlq'
        """
        return self.dlq.topic or f"{self.kafka.topics[0]}_dlq"

    @property
    def drain_timeout_s(self) -> float:
        """Seconds that records in flight get to finish at shutdown."""
        return self.runtime.drain_timeout_s or self.executor.drain_timeout_seconds

    @field_validator("executors")
    @classmethod
    def _executors_have_names(cls, executors: dict[str, ProgramConfig]) -> dict[str, ProgramConfig]:
        for name in executors:
            if name == "default":
                raise ValueError("'default' is the name of the section executor: write its settings there")
            if not re.fullmatch("[A-Za-z0-9_-]+", name):
                raise ValueError(f"{name!r} is no name: use characters a-z, A-Z, 0-9, '-' and '_'")
        return executors

    @model_validator(mode="after")
    def _dead_letters_have_a_topic(self) -> Self:
        if not self.dlq.topic and self.kafka.topics[0].startswith("^"):
            raise ValueError("dlq.topic must be set when the source topic is a regular expression")
        check_loops(self.kafka, self.sinks, self.dlq, self.dead_letter_topic)
        return self
