"""Table of py-drakkar's keys that moved or went away, and what each becomes.

Keys that are the same here are in the schema and not in this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LEGACY_KEYS", "Ignored", "LegacyPath", "LegacyRule", "Moved", "Refused", "legacy_children", "legacy_rule"]

LegacyPath = tuple[str | int, ...]
"""The path of a legacy key; in the table `*` stands for a name a user chooses."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The value is used at `to`, where a `*` is the same name; `convert` gives it the form it has there."""

    to: str
    convert: Callable[[Any], Any] = lambda value: value
    how: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """The key has no effect and does no harm; `why` is the reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that `matters` would do harm if it had no effect; another is ignored."""

    why: str
    matters: Callable[[Any], bool] = bool
    remedy: str = ""


LegacyRule = Moved | Ignored | Refused


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "t", "y")


def _is_on(section: object) -> bool:
    return isinstance(section, Mapping) and _is_true(section.get("enabled", False))


def _minutes(hours: Any) -> Any:
    try:
        return int(hours) * 60
    except (TypeError, ValueError, OverflowError):
        return hours


def _on_decode_error(on_parse_error: Any) -> Any:
    return {"raise": "fail", "skip": "pass"}.get(str(on_parse_error), on_parse_error)


def _same_names(old: str, new: str, *names: str) -> dict[str, LegacyRule]:
    return {f"{old}.{name}": Moved(f"{new}.{name}") for name in names}


def _gone(section: str, why: str, *names: str) -> dict[str, LegacyRule]:
    return {f"{section}.{name}": Ignored(why) for name in names}


_NO_HTTP_SOURCE: Final = "records come from Kafka only"
_NO_PAGE: Final = "there is no web page in this version"
_STDIN: Final = "stdin is recorded with the other outputs, up to 64 KiB"
_ANNOTATIONS: Final = "annotations are recorded as events, up to 16 KiB each"

LEGACY_KEYS: Final[Mapping[str, LegacyRule]] = {
    # the source
    "sources.kafka.enabled": Refused(
        _NO_HTTP_SOURCE, lambda value: not _is_true(value), "remove it; a flow always reads from Kafka"
    ),
    "sources.kafka.topic": Moved("kafka.source_topic"),
    "sources.kafka.on_parse_error": Moved(
        "runtime.on_decode_error", _on_decode_error, "raise is called fail, skip is called pass"
    ),
    **_same_names(
        "sources.kafka",
        "kafka",
        *("consumer_group", "max_poll_records", "max_poll_interval_ms", "session_timeout_ms", "heartbeat_interval_ms"),
        *("startup_align_enabled", "startup_min_wait_seconds", "startup_align_interval_seconds"),
    ),
    "sources.http": Refused(_NO_HTTP_SOURCE, _is_on, "run py-drakkar for the HTTP source"),
    "webapp": Refused(_NO_HTTP_SOURCE, _is_on, "run py-drakkar for the HTTP source"),
    # sinks and dead letters
    "sinks.kafka.*.flush_timeout_seconds": Moved("sinks.kafka.*.delivery_timeout_s"),
    "sinks.custom.*": Moved("sinks.*"),
    "dlq.flush_timeout_seconds": Ignored("dead letters are tried again until the broker has them"),
    "dlq.on_send_failure": Moved("dlq.on_failure"),
    # the web page and the recorder
    "ui.public_url": Moved("debug.debug_url"),
    "ui.max_rows": Moved("debug.max_ui_rows"),
    **_same_names(
        "ui",
        "debug",
        *("enabled", "host", "port", "auth_token", "allowed_ws_origins", "expose_env_vars", "custom_links"),
        *("log_min_duration_ms", "ws_min_duration_ms", "prometheus_url", "prometheus_rate_interval"),
        *("prometheus_worker_label", "prometheus_cluster_label"),
    ),
    **_gone(
        "ui",
        _NO_PAGE,
        *("probe_enabled", "merge_enabled", "kafka_read_enabled", "link_bases", "custom_renderers_path"),
        *("consume_pause", "release", "probe_details", "timeline", "trace", "docs"),
    ),
    "ui.recorder.rotation_interval_hours": Moved("debug.rotation_interval_minutes", _minutes, "in minutes"),
    **_same_names(
        "ui.recorder",
        "debug",
        *("store_events", "store_config", "store_state", "store_output", "state_sync_interval_seconds"),
        *("flush_interval_seconds", "max_buffer", "max_flush_retries"),
        *("event_min_duration_ms", "output_min_duration_ms"),
    ),
    **_gone(
        "ui.recorder",
        _ANNOTATIONS,
        *("annotations_enabled", "annotation_max_bytes", "annotation_max_bytes_per_call", "annotation_log_max_bytes"),
    ),
    **_gone("ui.recorder", _STDIN, "store_stdin", "stdin_max_bytes"),
    "storage.dir": Moved("debug.db_dir"),
    "history": Ignored("drakkar-flow recorder merge collects recordings"),
    # the rest
    "metrics.task_label_histograms": Ignored("there are no histograms by task label in this version"),
    "throughput": Ignored("throughput is not weighed by cost in this version"),
    "runtime_health": Ignored(
        "runtime.blocked_after_s and runtime.stuck_after_s say when the loop or a partition counts as stalled"
    ),
    "io": Ignored("each sink brings the threads it needs"),
    "shared": Ignored("workers share nothing but the consumer group"),
    "fleet": Ignored("workers find each other through the consumer group"),
}
"""Rule of each legacy key, by its dotted path; a listed section is handled as a whole."""

_BY_PATH: Final[dict[LegacyPath, LegacyRule]] = {tuple(key.split(".")): rule for key, rule in LEGACY_KEYS.items()}


def legacy_rule(path: LegacyPath) -> LegacyRule | None:
    """Rule of the key at a path; None if the table has none.

    >>> legacy_rule(("sources", "kafka", "topic")).to
    'kafka.source_topic'
    """
    return next((rule for legacy, rule in _BY_PATH.items() if _matches(path, legacy)), None)


def legacy_children(path: LegacyPath) -> list[str]:
    """The keys below a path that the table knows or leads on from.

    >>> legacy_children(("storage",)), legacy_children(("kafka",))
    (['dir'], [])
    """
    n = len(path)
    keys = (str(legacy[n]) for legacy in _BY_PATH if len(legacy) > n and _matches(path, legacy[:n]))
    return list(dict.fromkeys(keys))


def _matches(path: LegacyPath, legacy: LegacyPath) -> bool:
    return len(legacy) == len(path) and all(b in (a, "*") for a, b in zip(path, legacy, strict=True))
