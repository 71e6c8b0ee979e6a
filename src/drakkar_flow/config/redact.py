"""Secrets of a configuration: masking for display, and the list of their texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from drakkar_flow.kernel.redaction import MASK, is_sensitive, mask

__all__ = ["SecretUrl", "plain", "redacted", "secrets_in"]

_HOSTS: Final = re.compile(r"(?:[^:/,]*|\[[^/]*\])(?::\d*)?(?:,[^:/,]*(?::\d*)?)*(?:/.*)?", re.DOTALL)
"""Hosts with ports and a path: what may be shown of a URL."""
_PAIR: Final = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)")
"""A keyword and its value in libpq's form of a DSN."""


class SecretUrl(SecretStr):
    """A URL or DSN that is shown without its credentials and parameters, and not at all when it is no URL.

    >>> SecretUrl("postgres://joe:pw@db:5432/app?sslmode=require"), SecretUrl("host=db password=pw")
    (SecretUrl('postgres://********@db:5432/app?********'), SecretUrl('********'))
    """

    def _display(self) -> str:
        scheme, _, rest = self.get_secret_value().partition("://")
        credentials, at, place = rest.rpartition("@")
        place, parameters, _ = place.partition("?")
        if not rest or not _HOSTS.fullmatch(place):
            return MASK if scheme else ""
        return f"{scheme}://{MASK + at if credentials else ''}{place}{parameters and '?' + MASK}"


_WITH_USERS = ("postgres", "postgresql", "mongodb", "mongodb+srv")
"""Schemes whose URLs name a user also where they need no password."""


def redacted(config: BaseModel, *, hidden: bool = False) -> dict[str, Any]:
    """The configuration as plain data, fit to be shown: secrets and credentials in URLs are masked.

    Masked are secret fields that are set, values in free mappings (and in models of the user's own) whose names sound
    like secrets, and the credentials of URLs anywhere.
    """
    theirs = not type(config).__module__.startswith("drakkar_flow.")
    return {name: plain(value, hidden=theirs and (hidden or is_sensitive(name))) for name, value in config}


def plain(value: object, *, hidden: bool = False) -> Any:
    """The value as plain data, fit to be shown; with `hidden`, all that stands in it is masked."""
    if isinstance(value, SecretUrl):
        return str(value)
    if isinstance(value, SecretStr | SecretBytes | Secret):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, BaseModel):
        return redacted(value, hidden=hidden)
    if isinstance(value, Mapping):
        return {key: plain(v, hidden=hidden or is_sensitive(str(key))) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, hidden=hidden) for v in value]
    if hidden and value is not None:
        return MASK
    return mask(value) if isinstance(value, str) else value


def secrets_in(value: object, *, hidden: bool = False) -> Iterator[str]:
    """The secrets of a configuration, or of a value in it: the texts that must not appear anywhere else.

    >>> sorted(secrets_in({"url": SecretUrl("http://joe:p%40ss@h/?token=abc"), "api_key": "k-1", "topic": "t"}))
    ['abc', 'k-1', 'p%40ss', 'p@ss']
    """
    if isinstance(value, SecretUrl):
        yield from _secrets_of_url(value.get_secret_value())
    elif isinstance(value, SecretStr | SecretBytes | Secret):
        yield from secrets_in(value.get_secret_value(), hidden=True)
    elif isinstance(value, BaseModel | Mapping):
        ours = isinstance(value, BaseModel) and type(value).__module__.startswith("drakkar_flow.")
        for name, inner in value if isinstance(value, BaseModel) else value.items():
            yield from secrets_in(inner, hidden=not ours and (hidden or is_sensitive(str(name))))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_in(inner, hidden=hidden)
    elif isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode(errors="replace")
        yield from _secrets_of_url(text)
        if hidden:
            yield text
            yield from text.split()[1:]  # of a header: `Bearer TOKEN`


def _secrets_of_url(text: str) -> Iterator[str]:
    """The password and the secret parameters of a URL, and those of libpq's `key=value` form.

    A user without a password is a token in most URLs. In those of databases it is a name, which tables share.
    """
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        yield from (value.strip("'") for name, value in _PAIR.findall(text) if is_sensitive(name))
        return
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    if at and (colon or scheme not in _WITH_USERS):
        yield from {part for text in [password if colon else user] for part in (text, unquote(text))}
    yield from (value for name, value in parse_qsl(place.partition("?")[2]) if is_sensitive(name))
