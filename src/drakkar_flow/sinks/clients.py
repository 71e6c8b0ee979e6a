"""Client libraries of sinks: their import, and error texts without secrets."""

from __future__ import annotations

import errno
import re
import sqlite3
from importlib import import_module
from typing import Any

from drakkar_flow.config.urls import secrets_of
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.redaction import MASK

__all__ = ["client_words", "never", "refused_url", "require", "tls_remedy", "unusable"]

_SHORT = 4
_NEVER = frozenset(
    {
        *(errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR),
        *(errno.EPERM, errno.EROFS),
    }
)
_NEVER_CODES = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)

_TLS = re.compile(
    "certificate verify failed|wrong version number|rejected SSL upgrade|"
    "alert (handshake failure|bad certificate|certificate|unknown ca|protocol version)",
    re.IGNORECASE,
)


def require(module: str, where: str, extra: str) -> Any:
    """Import a client library.

    Raises:
        StartupError: the library is not installed (exit code 2); the fix is the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        remedy = f'install it with: pip install "drakkar-flow[{extra}]"'
        raise StartupError([Problem(where, f"the package {module} is missing", remedy)], exit_code=2) from error


def client_words(error: BaseException, url: str = "") -> str:
    """Return a client's error as text, without the secrets of the URL.

    >>> client_words(OSError("no route to joe:pw12@db"), "postgres://joe:pw12@db/app")
    'OSError: no route to ********@db'
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # the text of an error may depend on a broken value
        return type(error).__name__
    for secret in sorted(filter(None, set(secrets_of(url))), key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) >= _SHORT else rf"(?<!\w){pattern}(?!\w)", MASK, text)
    return text


def unusable(where: str, what: str, remedy: str, *, for_good: bool) -> StartupError:
    """Return the error of a target that can't be used: exit code 2 `for_good`, else 1, and the start is tried again."""
    return StartupError([Problem(where, what, remedy)], exit_code=2 if for_good else 1)


def tls_remedy(error: BaseException) -> str:
    """Return the fix for a TLS handshake that fails each time; empty for any other error.

    >>> tls_remedy(OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"))
    'check that the server speaks TLS, and that its certificate names this host and is trusted here'
    """
    if not _TLS.search(str(error)):
        return ""
    return "check that the server speaks TLS, and that its certificate names this host and is trusted here"


def never(error: OSError | sqlite3.Error) -> bool:
    """Return True if a path stays unusable until the user changes something, unlike a full disk.

    >>> never(FileExistsError(errno.EEXIST, "File exists")), never(OSError(errno.ENOSPC, "No space left on device"))
    (True, False)
    """
    if isinstance(error, OSError):
        return error.errno in _NEVER
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _NEVER_CODES


def refused_url(where: str, error: BaseException) -> StartupError:
    """Return the error of a URL that the client does not accept: its text may repeat a secret, so it is not shown."""
    what = f"the client library does not accept this URL ({type(error).__name__})"
    remedy = "check its parameters, the numbers in it, and that user and password are percent-encoded"
    return unusable(where, what, remedy, for_good=True)
