"""The Redis sink: one command per payload, a batch in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drakkar_flow.config.remote import RedisSinkConfig
from drakkar_flow.errors import BatchFailed, Problem, SinkError, SinkNotConnected, SinkRejected, StartupError
from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.model.redis import RedisOp, RedisPayload
from drakkar_flow.sinks.base import SinkSpec
from drakkar_flow.sinks.clients import require

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SPEC", "RedisSink", "command_of"]

_CONNECT_S = 10.0
_ANSWER_S = 30.0
_SERVER_ERRORS = (
    *("LOADING", "READONLY", "OOM", "BUSY", "MISCONF", "MASTERDOWN", "NOREPLICAS"),
    *("CLUSTERDOWN", "TRYAGAIN", "NOSCRIPT", "NOAUTH", "NOPERM"),
)
"""What errors of the server's own state begin with; all others the payload has earned (redis.io/docs/reference)."""

Command = tuple[Any, ...]


class RedisSink:
    """Sends each payload as the command of its operation; a batch is one MULTI, in order.

    A command that fails (the key holds another type, say) fails its payload alone: Redis keeps what the
    others did. Commands that add something (`incrby`, `push`) may do so twice when an answer is lost.

    Args:
        name: the instance's name under `sinks.redis`.
        settings: where the server is.
    """

    def __init__(self, name: str, settings: RedisSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: Redis | None = None
        self._scripts: dict[str, str] = {}

    async def connect(self) -> None:
        """Connect, and load the scripts.

        Raises:
            StartupError: the server can't be reached or refuses us (exit code 1), or the client is not installed (2).
        """
        where = f"sinks.redis.{self._name}"
        require("redis", where, extra="redis")
        if self._client is not None:
            return
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        client = Redis.from_url(
            self._settings.url.get_secret_value(),
            socket_connect_timeout=_CONNECT_S,
            socket_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 0),  # we try again ourselves, and say so
        )
        try:
            await client.echo("connected")
            self._scripts = {name: str(await client.script_load(code)) for name, code in self._settings.scripts.items()}
        except (OSError, RedisError) as error:
            await client.aclose()
            what = f"Redis can't be used: {type(error).__name__}: {error}"
            remedy = "check host, port, user and password of the url, the scripts, and that the server runs"
            raise StartupError([Problem(f"{where}.url", what, remedy)]) from None
        self._client = client

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Send the batch and wait for every answer.

        Raises:
            BatchFailed: some commands failed; those that can't succeed are SinkRejected.
            SinkNotConnected: before `connect`, or after `close`.
            SinkError: nothing is known to be done.
        """
        if self._client is None:
            raise SinkNotConnected(f"sinks.redis.{self._name} is not connected; connect() comes first")
        from redis.exceptions import RedisError

        failures: dict[int, Exception] = {}
        commands: list[tuple[int, Command]] = []
        for index, delivery in enumerate(batch):
            try:
                commands.append((index, command_of(delivery.payload, self._settings.key_prefix, self._scripts)))
            except SinkRejected as error:
                failures[index] = error
        if commands:
            pipeline = self._client.pipeline(transaction=True)
            for _, command in commands:
                pipeline.execute_command(*command)
            try:
                answers = await pipeline.execute(raise_on_error=False)
            except (OSError, RedisError) as error:
                raise SinkError(f"Redis: {type(error).__name__}: {error}") from error
            for (index, _), answer in zip(commands, answers, strict=True):
                if isinstance(answer, Exception):
                    failures[index] = await self._cause(answer)
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Disconnect; safe to call twice and before `connect`."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _cause(self, error: Exception) -> SinkError:
        """Whether a command may be tried again; a server that was restarted gets the scripts anew."""
        text = f"{type(error).__name__}: {error}"
        if type(error).__name__ == "NoScriptError" and self._client is not None:
            for code in self._settings.scripts.values():
                await self._client.script_load(code)
            return SinkError(text)
        known = str(error).startswith(_SERVER_ERRORS) or type(error).__name__ != "ResponseError"
        return SinkError(text) if known else SinkRejected(text)


def command_of(payload: RedisPayload, prefix: str, scripts: Mapping[str, str]) -> Command:
    """The command a payload becomes; `scripts` has the digests of the sink's scripts by name.

    >>> command_of(RedisPayload(key="k", data={"a": 1}, ttl=60), "app:", {})
    ('SET', 'app:k', b'{"a":1}', 'EX', 60)

    Raises:
        SinkRejected: the data has no JSON form, or there is no such script.
    """
    if payload.op is RedisOp.SCRIPT:
        digest = scripts.get(payload.script)
        if digest is None:
            known = ", ".join(sorted(scripts)) or "none"
            raise SinkRejected(f"there is no script {payload.script!r} in the sink's scripts; there are: {known}")
        keys = [prefix + key for key in payload.keys]
        return ("EVALSHA", digest, len(keys), *keys, *payload.args)
    try:
        name, *rest = _COMMANDS[RedisOp(payload.op)](payload)
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"the payload can't be written: {type(error).__name__}: {error}") from error
    return (name, prefix + payload.key, *rest)


def _set(payload: RedisPayload) -> Command:
    expiry = ("EX", payload.ttl) if payload.ttl is not None else ()
    return ("SET", encode(payload.data), *expiry)


def _hset(payload: RedisPayload) -> Command:
    return ("HSET", *(part for pair in _pairs(payload.fields) for part in pair))


def _zadd(payload: RedisPayload) -> Command:
    return ("ZADD", *(part for member, score in _pairs(payload.members) for part in (score, member)))


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items())


_COMMANDS: Mapping[RedisOp, Callable[[RedisPayload], Command]] = {
    RedisOp.SET: _set,
    RedisOp.DELETE: lambda payload: ("DEL",),
    RedisOp.EXPIRE: lambda payload: ("EXPIRE", payload.ttl),
    RedisOp.INCRBY: lambda payload: ("INCRBY", payload.amount),
    RedisOp.HSET: _hset,
    RedisOp.HDEL: lambda payload: ("HDEL", *(payload.fields or ())),
    RedisOp.PUSH: lambda payload: ("RPUSH" if payload.side == "right" else "LPUSH", encode(payload.data)),
    RedisOp.TRIM: lambda payload: ("LTRIM", payload.start, payload.stop),
    RedisOp.SADD: lambda payload: ("SADD", *(payload.members or ())),
    RedisOp.SREM: lambda payload: ("SREM", *(payload.members or ())),
    RedisOp.ZADD: _zadd,
}


def _wrap(value: Any, record: Record, name: str, _settings: RedisSinkConfig) -> RedisPayload:
    key = record.key.decode(errors="replace") if record.key else record.label
    return RedisPayload(key=key, data=value, sink=name)


SPEC = SinkSpec(
    kind="redis",
    payload_type=RedisPayload,
    settings_type=RedisSinkConfig,
    make=RedisSink,
    wrap=_wrap,
)
"""What the library knows about Redis sinks."""
