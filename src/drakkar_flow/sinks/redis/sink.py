"""Redis sink: one command per payload, a batch in one transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from drakkar_flow.config.urls import encoded
from drakkar_flow.errors import (
    BatchFailed,
    SinkError,
    SinkMisconfigured,
    SinkNotConnected,
    SinkRejected,
)
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import client_words, refused_url, require, tls_remedy, unusable
from drakkar_flow.sinks.redis.commands import Command, command_of
from drakkar_flow.sinks.redis.payload import RedisOp, RedisPayload
from drakkar_flow.sinks.redis.proof import prove
from drakkar_flow.sinks.redis.settings import RedisSinkConfig

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SPEC", "RedisSink"]

_CONNECT_S = 10.0
_ANSWER_S = 30.0
_LOGIN = "check the user of sinks.redis.*.url, its password and its rights (ACL)"
_NOT_THE_SERVER = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "UNKILLABLE"})
"""Error codes of a server that takes no writes: another one takes them now, or it does not take them yet."""
_FOR_NOW = frozenset({"OOM", "BUSY", "MISCONF", "TRYAGAIN", "NOSCRIPT", "ASK", "EXECABORT"})
"""Error codes of the server's state (redis.io/docs/reference)."""
_NEVER = frozenset({"NOPERM", "NOAUTH", "WRONGPASS", "MOVED", "CROSSSLOT", "DENIED"})
"""Error codes that rights and the set-up of the server explain. All others concern the payload."""
_QUOTED = re.compile(r"['\"`]")


class RedisSink:
    """Sends each payload as the command of its operation; a batch is one MULTI, in order.

    - A command that fails (for example because the key holds another type) fails its payload alone: Redis keeps the
      results of the others.
    - Commands that add something (`incrby`, `push`) may do so twice if an answer is lost.
    - After an answer that another server takes writes now, all connections are replaced.

    Args:
        name: the instance's name under `sinks.redis`.
        settings: the address of the server, the key prefix and the scripts.
    """

    def __init__(self, name: str, settings: RedisSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: Redis | None = None
        self._scripts: dict[str, str] = {}

    async def connect(self) -> None:
        """Connect, and load the scripts.

        Raises:
            StartupError: the server can't be reached (exit code 1); it refuses the login, the database or a script,
                or the client is not installed (2).
        """
        where = f"sinks.redis.{self._name}"
        require("redis", where, extra="redis")
        if self._client is not None:
            return
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

        url = self._settings.url.get_secret_value()
        client: Redis | None = None
        try:
            client = Redis.from_url(
                encoded(url),
                socket_connect_timeout=_CONNECT_S,
                socket_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 0),  # we try again ourselves, and report it
            )
            await client.echo("connected")
            await self._load_scripts(client, where)
            self._client = client
        except (OSError, RedisError) as error:
            what = f"Redis can't be used: {client_words(error, url)}"
            if isinstance(error, AuthenticationError | NoPermissionError):
                raise unusable(f"{where}.url", what, "check user, password and rights", for_good=True) from None
            if "DB index is out of range" in str(error):
                raise unusable(f"{where}.url", what, "give a database that the server has", for_good=True) from None
            tls = tls_remedy(error)
            remedy = tls or "check host and port of the url, and that the server runs"
            raise unusable(f"{where}.url", what, remedy, for_good=bool(tls)) from None
        except (TypeError, ValueError, AttributeError) as error:  # of parameters in the URL
            raise refused_url(f"{where}.url", error) from None
        finally:
            if client is not None and self._client is None:
                await client.aclose()

    async def _load_scripts(self, client: Redis, where: str) -> None:
        from redis.exceptions import NoPermissionError, ResponseError

        for name, code in self._settings.scripts.items():
            try:
                self._scripts[name] = str(await client.script_load(code))
            except NoPermissionError:
                raise
            except ResponseError as error:
                what = f"Redis refuses the script: {error}"
                if "rror compiling" in str(error):
                    raise unusable(f"{where}.scripts.{name}", what, "fix its Lua code", for_good=True) from None
                raise

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Send the batch and wait for every answer.

        Raises:
            BatchFailed: some commands failed; those that can't succeed are SinkRejected.
            SinkNotConnected: before `connect`, or after `close`.
            SinkError: no command is known to have run.
        """
        if self._client is None:
            raise SinkNotConnected(f"sinks.redis.{self._name} is not connected; connect() comes first")
        failures: dict[int, Exception] = {}
        commands: list[tuple[int, Command]] = []
        for index, delivery in enumerate(batch):
            try:
                commands.append((index, command_of(delivery.payload, self._settings.key_prefix, self._scripts)))
            except SinkRejected as error:
                failures[index] = error
        if commands:
            answers = await self._send([command for _, command in commands])
            for (index, command), answer in zip(commands, answers, strict=True):
                if isinstance(answer, Exception):
                    failures[index] = self._cause(answer, scripted=command[0] == "EVALSHA")
            await self._react([answer for answer in answers if isinstance(answer, Exception)])
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Disconnect; safe to call twice and before `connect`."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send(self, commands: list[Command]) -> list[Any]:
        """Send the commands; returns the answers, with an error for each command that failed.

        Raises:
            SinkError: no command is known to have run.
            RuntimeError: no command ran, because the server refused one of several commands before their turn.
        """
        from redis.exceptions import AuthenticationError, RedisError, ResponseError

        assert self._client is not None
        pipeline = self._client.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except ResponseError as error:
            cause = self._cause(error)
            if len(commands) == 1:
                await self._react([error])
                return [error]
            if isinstance(cause, SinkNotConnected):
                await self._react([error])
                raise cause from None
            raise RuntimeError(f"Redis refused one of several commands: {_reason(error)}") from None
        except AuthenticationError as error:
            raise SinkMisconfigured(f"Redis: {_reason(error)}", _LOGIN) from None
        except (OSError, RedisError) as error:
            raise SinkNotConnected(f"Redis: {_reason(error)}") from None
        return answers

    def _cause(self, error: Exception, *, scripted: bool = False) -> SinkError:
        """Return the cause of a failed command, by the code of the server's answer; a script's text is its detail."""
        code, detail = _code(error), _answer(error)
        text = f"{type(error).__name__}: {code}" if scripted else _reason(error)
        if code in _NOT_THE_SERVER:
            return SinkNotConnected(text)
        if code in _NEVER:
            return SinkMisconfigured(
                text, _LOGIN if code != "MOVED" else "use the address of a server, not of a cluster"
            )
        return SinkError(text, detail=detail) if code in _FOR_NOW else SinkRejected(text, detail=detail)

    async def _react(self, errors: list[Exception]) -> None:
        """Leave a server that does not take writes, and load the scripts into one that was restarted."""
        from redis.exceptions import RedisError

        codes = {_code(error) for error in errors}
        client = self._client
        if client is None:
            return
        with suppress(OSError, RedisError):  # the next write shows it
            if codes & (_NOT_THE_SERVER | {"NOAUTH", "MOVED"}):
                await client.connection_pool.disconnect()
            if "NOSCRIPT" in codes:
                for code in self._settings.scripts.values():
                    await client.script_load(code)


def _code(error: Exception) -> str:
    """Return the first word of a server's answer: its kind of error."""
    return str(getattr(error, "status_code", "") or _answer(error).split(" ", 1)[0])


def _reason(error: Exception) -> str:
    """Return the reason for log lines: the answer up to the first argument that it quotes."""
    return f"{type(error).__name__}: {_QUOTED.split(_answer(error), 1)[0]}"


def _answer(error: Exception) -> str:
    """Return the server's answer, without the command and its values, which the client puts before it."""
    return str(error).rpartition(" of pipeline caused error: ")[2]


def _wrap(value: Any, record: Record, name: str, _settings: RedisSinkConfig) -> RedisPayload:
    key = record.key.decode(errors="replace") if record.key else record.label
    return RedisPayload(key=key, data=value, sink=name)


def _check(payload: RedisPayload, _settings: Mapping[str, Any]) -> None:
    if payload.op is not RedisOp.SCRIPT:
        command_of(payload, "", {})


SPEC = SinkSpec(
    kind="redis",
    payload_type=RedisPayload,
    settings_type=RedisSinkConfig,
    make=RedisSink,
    wrap=_wrap,
    check_payload=_check,
    prove=prove,
    client="redis",
    not_checked="keys and commands that only payloads name",
)
"""Spec of the Redis sink."""
