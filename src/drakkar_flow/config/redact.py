"""Hiding secrets in what is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from drakkar_flow.config.base import Section

__all__ = ["MASK", "is_sensitive", "mask_url", "redacted"]

MASK: Final = "********"
"""What is shown instead of a secret."""
_SENSITIVE: Final = re.compile(
    r"passw|passphrase|secret|token|credential|salt|private|authorization|jaas|api_?key|[._-]key$|\.pem$|[._-]dsn$",
    re.IGNORECASE,
)
_CREDENTIALS: Final = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?:[^\s:/@]*:\S*|[^/?#\s]*)@")
"""Up to the last `@` where there is a password, for passwords hold anything: better too much is hidden."""
_PARAMETER: Final = re.compile(r"(?P<name>\w*(?:passw|secret|token|credential|api_?key)\w*=)[^&;,\s]+", re.IGNORECASE)


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


def redacted(config: Section) -> dict[str, Any]:
    """The configuration as plain data, fit to be shown: secrets and credentials in URLs are masked.

    Masked are secret fields that are set, values in free mappings whose names sound like secrets, and the credentials
    of URLs anywhere.
    """
    return {name: _plain(value) for name, value in config}


def _plain(value: object, *, hidden: bool = False) -> Any:
    if isinstance(value, Section):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: _plain(v, hidden=hidden or is_sensitive(str(key))) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, hidden=hidden) for v in value]
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if hidden and value is not None:
        return MASK
    return mask_url(value) if isinstance(value, str) else value
