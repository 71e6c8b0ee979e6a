"""Start-up: connects everything concurrently, so that a failed start reports all problems at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import Any

from anyio import to_thread
from confluent_kafka import Consumer, KafkaError, KafkaException

from drakkar_flow.config.sections.kafka import KafkaConfig
from drakkar_flow.engine.build import consumer_properties
from drakkar_flow.errors import Problem, ProblemsError, StartupError
from drakkar_flow.kernel.alignment import aligned_start
from drakkar_flow.kernel.kafka_errors import Severity, is_tls_refusal, report, severity_of
from drakkar_flow.runtime.cluster.link import StartStopped
from drakkar_flow.runtime.components import Components

__all__ = ["Unreached", "check_source", "connect_all", "wait_for_common_start"]

AGAIN_S = 0.5  # between two attempts to connect a sink
_GRACE_S = 1.0  # after a permanent problem, the longest pause between two more results that are waited for
ASK_S = 5.0  # timeout of one request to the brokers
_FIRST_ASK_S = 1.0  # timeout of the first one: permanent errors are received only after it

Unreached = Callable[[object], None]
"""Callback, called once with the problem of a dependency that is not reachable yet."""


async def connect_all(
    components: Components,
    log: Any,
    check_source: Callable[[Unreached], None] | None,
    interrupted: Future[None] | None = None,
) -> None:
    """Connect sinks and dead letters, start the executor, check the source on a thread, all concurrently.

    Unreachable dependencies are logged, and retried for `kafka.startup_timeout_s`, or until `interrupted` has an error.

    Raises:
        StartupError: with all problems; exit code 2, without further retries, if any is a problem of the
            configuration; exit code 1 if dependencies are only unreachable.
        StartStopped: another process of the cluster was stopped.
    """
    budget_s = components.config.kafka.startup_timeout_s

    def unreached(problem: object) -> None:
        log.warning("startup_waiting", problem=str(problem), expect=f"retried for {budget_s:g} s")

    attempts: list[Coroutine[Any, Any, None]] = []
    if check_source is not None:  # Ctrl-C must not wait for it
        attempts.append(to_thread.run_sync(check_source, unreached, abandon_on_cancel=True))
    attempts += [connect_within(part.sink.connect, budget_s, unreached) for part in components.sinks.values()]
    attempts.append(connect_within(components.dead_letters.connect, budget_s, unreached))
    if components.executor is not None:
        attempts.append(components.executor.start())
    interrupt = asyncio.get_running_loop().create_future() if interrupted is None else asyncio.wrap_future(interrupted)
    results = await _all_or_hopeless([asyncio.ensure_future(attempt) for attempt in attempts], interrupt)
    problems: list[Problem] = []
    exit_code = 1
    for result in results:
        if isinstance(result, ProblemsError):
            problems.extend(problem for problem in result.problems if problem not in problems)
            exit_code = max(exit_code, result.exit_code)
        elif isinstance(result, BaseException):
            raise result
    if problems:
        raise StartupError(problems, exit_code=exit_code)


async def _all_or_hopeless(
    attempts: list[asyncio.Future[None]], interrupt: asyncio.Future[None]
) -> list[BaseException | None]:
    """Return the result of each attempt, and of `interrupt` if it has one.

    After that, or an attempt with exit code 2, the others get only a short time to report.
    """
    pending, watched, grace_s = set(attempts), {*attempts, interrupt}, None
    while pending:
        ended, watched = await asyncio.wait(watched, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        if not ended:
            break
        pending -= ended
        if interrupt in ended or any(_is_final(attempt.exception()) for attempt in ended):
            grace_s = _GRACE_S
    for attempt in watched:
        attempt.cancel()
    return [attempt.exception() for attempt in (interrupt, *attempts) if attempt not in watched]


def _is_final(error: BaseException | None) -> bool:
    """True for a permanent problem, and for a stop: no other result makes this start succeed."""
    return isinstance(error, StartStopped) or (isinstance(error, ProblemsError) and error.exit_code == 2)


async def wait_for_common_start(kafka: KafkaConfig, stop_asked: asyncio.Event, log: Any) -> None:
    """Wait for the wall-clock time at which workers that were started together begin to read, or for `stop_asked`."""
    now_s = time.time()
    wait_s = aligned_start(now_s, kafka.startup_min_wait_seconds, kafka.startup_align_interval_seconds) - now_s
    log.info("startup_align_waiting", wait_s=round(wait_s, 3))
    with suppress(TimeoutError):
        await asyncio.wait_for(stop_asked.wait(), wait_s)
    log.info("startup_align_done", stopped=stop_asked.is_set())


async def connect_within(
    connect: Callable[[], Coroutine[Any, Any, None]], budget_s: float, unreached: Unreached
) -> None:
    """Retry until success, a permanent problem (exit code 2), or the end of the start-up budget."""
    deadline = time.monotonic() + budget_s
    for attempt in count():
        try:
            await connect()
            return
        except StartupError as exc:
            if exc.exit_code != 1 or time.monotonic() + AGAIN_S >= deadline:
                raise
            if attempt == 0:
                unreached(exc.problems[0])
        await asyncio.sleep(AGAIN_S)


def check_source(kafka: KafkaConfig, unreached: Unreached) -> None:
    """Wait until the brokers answer, at most `kafka.startup_timeout_s`, and check that the topics exist.

    Raises:
        StartupError: the brokers do not answer (exit code 1), or they refuse this client, the client's properties are
            invalid or topics are missing (2).
    """
    errors: list[KafkaError] = []
    properties = consumer_properties(kafka)
    _check_tokens(properties, kafka.startup_timeout_s, unreached)
    try:
        client = Consumer({**properties, "log_level": 0, "error_cb": errors.append})
    except (KafkaException, TypeError, ValueError) as exc:
        raise StartupError([Problem("kafka.client_config", report(exc))], exit_code=2) from exc
    try:
        _check_topics(client, kafka, _topics(client, kafka, unreached, errors))
    finally:
        client.close()


def _check_tokens(properties: dict[str, Any], budget_s: float, unreached: Unreached) -> None:
    """Get a token if the login needs one; wait for its provider."""
    callback, deadline = properties.get("oauth_cb"), time.monotonic() + budget_s
    if callback is None:
        return
    for attempt in count():
        try:
            callback.check(properties.get("sasl.oauthbearer.config", ""))
            return
        except StartupError as exc:
            if exc.exit_code != 1 or time.monotonic() + AGAIN_S >= deadline:
                raise
            if attempt == 0:
                unreached(exc.problems[0])
        time.sleep(AGAIN_S)


def _check_topics(client: Consumer, kafka: KafkaConfig, known: set[str]) -> None:
    missing = [topic for topic in kafka.topics if not topic.startswith("^") and topic not in known]
    missing = [topic for topic in missing if not _exists(client, topic)]
    if missing:
        remedy = "create it: drakkar-flow topics create FLOW; or fix kafka.source_topic"
        problems = [Problem("kafka.source_topic", f"topic {topic!r} does not exist", remedy) for topic in missing]
        raise StartupError(problems, exit_code=2)


def _topics(client: Consumer, kafka: KafkaConfig, unreached: Unreached, errors: list[KafkaError]) -> set[str]:
    deadline = time.monotonic() + kafka.startup_timeout_s
    for attempt in count():
        remaining = deadline - time.monotonic()
        try:
            ask_s = min(ASK_S, _FIRST_ASK_S if attempt == 0 else ASK_S, max(0.1, remaining))
            return set(client.list_topics(timeout=ask_s).topics)
        except KafkaException as exc:
            client.poll(0)  # serves error_cb
            telling = [error for error in errors if error.name() != "_ALL_BROKERS_DOWN"]
            reason = report((telling or errors)[-1] if errors else exc)
            for error in errors:
                if severity_of(error) is not Severity.RECOVERABLE or is_tls_refusal(error):
                    what = f"the brokers at {kafka.brokers} refuse this client: {report(error)}"
                    raise StartupError([Problem("kafka.brokers", what)], exit_code=2) from exc
            if time.monotonic() >= deadline:
                what = f"no broker answers at {kafka.brokers} within {kafka.startup_timeout_s:g} s: {reason}"
                remedy = "start the brokers, or fix kafka.brokers"
                raise StartupError([Problem("kafka.brokers", what, remedy)], exit_code=1) from exc
            if attempt == 0:
                unreached(f"kafka.brokers: no broker answers at {kafka.brokers}: {reason}")
    raise AssertionError("unreachable")


def _exists(client: Consumer, topic: str) -> bool:
    """Request one topic by name, so that brokers with automatic creation create it."""
    try:
        found = client.list_topics(topic, timeout=ASK_S).topics[topic]
    except KafkaException:
        return False
    return found.error is None
