"""Hiding secrets in what is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = ["MASK", "SecretUrl", "is_sensitive", "mask_url", "plain", "redacted"]

MASK: Final = "********"
"""What is shown instead of a secret."""
_SENSITIVE: Final = re.compile(
    r"passw|passphrase|secret|token|credential|salt|private|authorization|cookie|jaas|api_?key"
    r"|[._-]key$|\.pem$|(^|[._-])dsn$",
    re.IGNORECASE,
)
_CREDENTIALS: Final = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?:[^\s:/@]*:\S*|[^/?#\s]*)@")
"""Up to the last `@` where there is a password, for passwords hold anything: better too much is hidden."""
_HOSTS: Final = re.compile(r"(?:[^:/,]*|\[[^/]*\])(?::\d*)?(?:,[^:/,]*(?::\d*)?)*(?:/.*)?", re.DOTALL)
"""Hosts with ports and a path: what may be shown of a URL."""
_PARAMETER: Final = re.compile(r"(?P<name>\w*(?:passw|secret|token|credential|api_?key)\w*=)[^&;,\s]+", re.IGNORECASE)


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


def is_sensitive(name: str) -> bool:
    """Whether a key of a free mapping sounds like a secret.

    >>> [is_sensitive(name) for name in ("DB_PASSWORD", "sasl.oauthbearer.client.secret", "linger.ms")]
    [True, True, False]
    """
    return bool(_SENSITIVE.search(name))


def mask_url(text: str) -> str:
    """The text without the credentials of the URLs in it.

    >>> mask_url("postgres://joe:pw@db/app?sslpassword=x&a=b")
    'postgres://********@db/app?sslpassword=********&a=b'
    """
    return _PARAMETER.sub(rf"\g<name>{MASK}", _CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text))


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
    return mask_url(value) if isinstance(value, str) else value
