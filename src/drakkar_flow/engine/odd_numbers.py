"""Contradictory numbers: settings that are valid alone and make no sense together."""

from __future__ import annotations

from collections.abc import Iterator

from drakkar_flow.config.root import DrakkarConfig

__all__ = ["odd_numbers"]

Path = tuple[str | int, ...]


def odd_numbers(config: DrakkarConfig) -> Iterator[tuple[Path, str, str]]:
    """Yield (path of the key, problem, fix) for each of them.

    >>> list(odd_numbers(DrakkarConfig()))
    []
    """
    kafka, executor, runtime = config.kafka, config.executor, config.runtime
    if executor.backpressure_low_multiplier > executor.backpressure_high_multiplier:
        what = (
            f"{executor.backpressure_low_multiplier} is more than backpressure_high_multiplier"
            f" ({executor.backpressure_high_multiplier})"
        )
        yield ("executor", "backpressure_low_multiplier"), what, "set it below"
    if executor.window_size > runtime.max_in_flight_records:
        what = f"a window of {executor.window_size} is never full"
        yield ("executor", "window_size"), what, f"runtime.max_in_flight_records is {runtime.max_in_flight_records}"
    if config.drain_timeout_s > kafka.max_poll_interval_ms / 1000 * 0.8:
        what = f"{config.drain_timeout_s:g} s is more than 80 % of kafka.max_poll_interval_ms: a revoke cuts it"
        key = ("runtime", "drain_timeout_s") if runtime.drain_timeout_s else ("executor", "drain_timeout_seconds")
        yield key, what, "lower it, or raise max_poll_interval_ms"
    for kind, named in config.sinks:
        for name, settings in named.items() if isinstance(named, dict) else ():
            if settings.retry.initial_s > settings.retry.max_s:
                what = f"{settings.retry.initial_s:g} is more than max_s ({settings.retry.max_s:g})"
                yield ("sinks", kind, name, "retry", "initial_s"), what, "lower it"
