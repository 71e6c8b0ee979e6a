"""URL check: says which part of a URL is wrong, and never shows the part. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pydantic import SecretStr

__all__ = ["check_url", "encoded", "secrets_of", "url_of_pairs", "wrong_part"]

_ENCODE: Final = "percent-encode it ('/' as %2F, '?' as %3F, '#' as %23, '@' as %40, '%' as %25)"
_HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|(?P<name>[^:\[\]\x00-\x20\x7f]*))(?::(?P<port>.*))?", re.DOTALL)
_UNSAFE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9._~%-]")
_PAIR: Final = re.compile(
    r"\s*(?P<key>\w+)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<plain>(?:[^\s\\]|\\.)*))(?=\s|$)", re.DOTALL
)
_PLACES: Final = ("user", "password", "host", "port", "dbname")


def wrong_part(url: str, schemes: tuple[str, ...], *, several_hosts: bool = False, no_host: bool = False) -> str:
    """Problem of a URL, without any of its text; empty if there is none.

    >>> wrong_part("postgres://joe:a/b@db/app", ("postgres",))[:44]
    "the user or password holds '/', '?' or '#': "
    >>> wrong_part("postgres://joe:pw@db:five/app", ("postgres",)), wrong_part("redis://h:1/0", ("redis",))
    ('the port must be a number from 1 to 65535', '')

    Args:
        url: the text.
        schemes: those that are supported; `unix` needs a path instead of a host.
        several_hosts: whether the host may be a list, each with its port.
        no_host: whether the host may be left out.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "it has no '://'"
    if scheme.lower() not in schemes:
        return f"the scheme must be {' or '.join(schemes)}"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    if scheme.lower() == "unix":
        return "" if behind.partition("?")[0] else "the path of the socket is missing"
    hosts = authority.rpartition("@")[2]
    problem = _wrong_hosts(hosts, several_hosts=several_hosts, no_host=no_host)
    web = scheme.lower() in ("http", "https")
    if "@" in (behind if problem else behind.partition("?")[0]) and (problem or not web):
        return f"the user or password holds '/', '?' or '#': {_ENCODE}"
    return problem


def url_of_pairs(text: str) -> str:
    """The URL of a PostgreSQL connection string in libpq's `key=value` form; a URL stays as it is.

    >>> url_of_pairs("host=db port=5433 dbname=app user=joe password='a/b' sslmode=require")
    'postgresql://joe:a%2Fb@db:5433/app?sslmode=require'

    Raises:
        ValueError: it is neither; the message has none of its text.
    """
    if "://" in text:
        return text
    pairs: dict[str, str] = {}
    at = 0
    while at < len(text.rstrip()):
        found = _PAIR.match(text, at)
        if found is None:
            raise ValueError("it is neither a URL nor a list of key=value")
        value = found["quoted"] if found["quoted"] is not None else found["plain"]
        pairs[found["key"]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = found.end()
    user, password, host, port, database = (quote(pairs.pop(name, ""), safe="") for name in _PLACES)
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    place = f"{host.replace('%2C', ',')}{':' + port if port else ''}"
    rest = f"?{urlencode(pairs)}" if pairs else ""
    return f"postgresql://{login}{place}/{database}{rest}"


def encoded(url: str) -> str:
    """The URL with its user and password percent-encoded where they are not, as clients need them.

    >>> encoded("postgres://joe:a@b c%@db/app"), encoded("redis://:a%2Fb@h")
    ('postgres://joe:a%40b%20c%25@db/app', 'redis://:a%2Fb@h')
    """
    scheme, separator, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, _ = authority.rpartition("@")
    user, colon, password = (_UNSAFE.sub(lambda found: quote(found[0], safe=""), part) for part in login.partition(":"))
    return f"{scheme}{separator}{user}{colon and ':'}{password}{at}{rest[len(login) + len(at) :]}"


def secrets_of(url: str) -> Iterator[str]:
    """The secret parts of a URL, in every form in which a client may repeat them."""
    yield url
    _, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    if at:
        password = login.partition(":")[2]
        yield from (rest.rpartition("@")[0], password, unquote(password))
        yield from re.split(r"[/?#@:]", password)
    elif ":" in rest:  # a password that was cut at one of its characters
        yield rest.partition(":")[2]
    for _, value in parse_qsl(rest.partition("?")[2]):
        yield value


def _wrong_hosts(hosts: str, *, several_hosts: bool, no_host: bool) -> str:
    if not hosts:
        return "" if no_host else "the host is missing"
    for host in hosts.split(",") if several_hosts else [hosts]:
        found = _HOST.fullmatch(host)
        if found is None or (found["name"] is not None and ("," in host or not found["name"])):
            return "the host is missing or no name of a host; an IPv6 address needs brackets, as in [::1]"
        port = found["port"]
        if port is not None and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65535):
            return "the port must be a number from 1 to 65535"
    return ""


def check_url(url: SecretStr, schemes: tuple[str, ...], *, several_hosts: bool = False, no_host: bool = False) -> None:
    """Check that a setting is a URL of one of the schemes with a host (`unix`: a path).

    Raises:
        ValueError: it is none; the text is without the value.
    """
    problem = wrong_part(url.get_secret_value(), schemes, several_hosts=several_hosts, no_host=no_host)
    if problem:
        raise ValueError(f"must be a URL with a host, like {schemes[0]}://host: {problem}")
