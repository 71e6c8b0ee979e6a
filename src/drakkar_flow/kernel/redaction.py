"""Redaction of secrets: names of secrets, patterns of credentials, and masking of both. Pure.

One list and one mask for log lines, errors, `config show`, dead letters and the environment of programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus, unquote

__all__ = ["MASK", "SECRET_NAMES", "WITHHELD_NAMES", "Redactor", "fits", "has_credential", "is_sensitive", "mask"]

MASK: Final = "********"
"""Shown instead of a secret."""

SECRET_NAMES: Final = (
    *("*PASSW*", "*PASSPHRASE*", "*PASSCODE*", "*PASSFILE*", "*PASSCOMMAND*", "PASS", "*_PASS", "*_PASS_*", "SSHPASS"),
    *("*_PWD", "*_PW", "*_PSW", "*PSWD*", "*SECRET*", "*TOKEN*", "*CREDENTIAL*", "*CREDS*", "*SALT*", "*PRIVATE*"),
    *("*AUTHORIZATION*", "AUTH", "*_AUTH", "*AUTH_CONFIG*", "*AUTH_HEADER*", "*COOKIE*", "*JAAS*", "*BEARER*"),
    *(
        "*_KEY",
        "*APIKEY*",
        "*API_KEY*",
        "*ACCESSKEY*",
        "*ACCESS_KEY*",
        "*SECRETKEY*",
        "*SIGNING*",
        "*HMAC*",
        "JWT",
        "*_JWT",
    ),
    *("PAT", "*_PAT", "*_PEM", "*_PFX", "*_P12", "DSN", "*_DSN", "*DATABASE_UR[LI]", "*CONNECTION_STRING*"),
    *("*CONNECTIONSTRING*", "*CONN_STR*", "*CONNSTR*", "*WEBHOOK*"),
)
"""Globs of names whose values are secrets: variables, keys of mappings, headers, parameters. See `fits`."""

WITHHELD_NAMES: Final = (
    *SECRET_NAMES,
    *("DK_*", "DRAKKAR_*", "AWS_*", "AZURE_*", "ARM_CLIENT_*", "SSH_AUTH_SOCK", "KUBECONFIG", "NETRC", "*SASL*"),
    *("*_KEYS", "*_KEY_*", "*KEYTAB*", "KRB5*CCNAME", "KRB5*KTNAME", "PGSERVICEFILE", "AIRFLOW_CONN_*", "*MNEMONIC*"),
)
"""Globs of variables that programs do not inherit: secrets, ours, and families that grant access."""

_VALUE = r"(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[^&;,\s'\"]+)"
_URL: Final = re.compile(r"(?<=://)(?:[^\s:/@]{0,512}:\S{0,1024}|[^/?#\s]{0,1024})@")
"""Up to the last `@` after a password: passwords may hold any character, so masking too much is safer."""
_PARAMETER: Final = re.compile(
    r"(?P<name>(?:passw|passphrase|secret|token(?!s\b|iz)|credential|api_?key|signature|authorization|accesskey|accountkey)"
    rf"[\w-]{{0,64}}\s?=\s?|[?&](?:sig|key|code|auth|pwd|pass)=|\b[a-z]{{0,16}}_?pwd=){_VALUE}",
    re.IGNORECASE,
)
_PROPERTY: Final = re.compile(
    r"(?P<name>(?:passw|passphrase|secret|api_?key)[\w-]{0,64}:\s?"
    rf"|(?:passw|passphrase|secret|token|credential|api_?key)[\w-]{{0,64}}(?:\\?['\"])\s?:\s?b?(?=\\?['\"])){_VALUE}",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"(?P<name>\b(?:proxy-authorization|authorization|set-cookie|cookie|x-api-key|x-auth-token)"
    r"(?:['\"]\s?[:,=]\s?b?(?=['\"])|\s?[:=]\s?))"
    r"(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[^'\"\r\n][^\r\n]*)",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"\b(?P<name>[Bb]earer|[Bb]asic)\s+(?=[a-z]*[A-Z0-9+/._~=-])[A-Za-z0-9+/._~=-]{8,}")
_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,32}PRIVATE KEY-----|\Z)", re.DOTALL
)
_TOKEN: Final = re.compile(
    r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}|npm_\w{30,}"
    r"|pypi-[\w-]{40,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
_SHORTEST: Final = 3
_WORD: Final = 6  # shorter secrets, and words, are masked only as separate words


def is_sensitive(name: str) -> bool:
    """True if a name of a free mapping is a secret's.

    >>> [is_sensitive(name) for name in ("DB_PASSWORD", "sasl.oauthbearer.client.secret", "X-Api-Key", "linger.ms")]
    [True, True, True, False]
    """
    return fits(name, SECRET_NAMES)


def fits(name: str, globs: Iterable[str]) -> bool:
    """True if a name matches one of the globs; case does not matter, and `.` and `-` count as `_`.

    >>> fits("my-key", ["*_KEY"]), fits("PWD", WITHHELD_NAMES), fits("ssh_auth_sock", WITHHELD_NAMES)
    (True, False, True)
    """
    return _compiled(tuple(globs)).fullmatch(_plain(name)) is not None


def mask(text: str) -> str:
    """Return the text with masked credentials.

    Masked are user and password in URLs, parameters and headers that carry secrets, private keys, and tokens of
    well-known forms.

    >>> mask("postgres://joe:pw@db/app?sslpassword=x&a=b"), mask("Authorization: Bearer abc")
    ('postgres://********@db/app?sslpassword=********&a=b', 'Authorization: ********')
    """
    if "://" in text:
        text = _URL.sub(f"{MASK}@", text)
    if "-----BEGIN" in text:
        text = _KEY_BLOCK.sub(MASK, text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\g<name>{MASK}", text)
    if ":" in text or "," in text:
        text = _PROPERTY.sub(rf"\g<name>{MASK}", text)
    text = _HEADER.sub(rf"\g<name>{MASK}", text)
    return _TOKEN.sub(MASK, _SCHEME.sub(rf"\g<name> {MASK}", text))


def has_credential(value: str) -> bool:
    """True if the value contains a credential."""
    return mask(value) != value


class Redactor:
    """Masks known secrets wherever they occur, also in their URL-encoded forms, and credentials.

    Secrets of fewer than 6 characters or of lower case letters only are masked only as separate words,
    those of fewer than 3 characters never.

    >>> Redactor(["p@55word"])("login with p@55word failed: http://h/?q=p%4055word")
    'login with ******** failed: http://h/?q=********'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST and form != MASK}
        self._secrets = frozenset(forms)
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(_pattern, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text with masked secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return mask(text)

    def __eq__(self, other: object) -> bool:
        """True if both mask the same secrets."""
        return isinstance(other, Redactor) and self._secrets == other._secrets

    def __hash__(self) -> int:
        return hash(self._secrets)

    def is_secret(self, value: str) -> bool:
        """True if the value is a known secret or contains a credential."""
        return value.strip() in self._secrets or has_credential(value)


def _forms(secret: str) -> set[str]:
    """The forms of a secret: plain, in URLs, and in Python's repr."""
    return {secret, secret.strip(), quote(secret, safe=""), quote_plus(secret), unquote(secret), repr(secret)[1:-1]}


def _pattern(secret: str) -> str:
    literal = re.escape(secret)
    is_word = len(secret) < _WORD or (secret.isalpha() and secret.islower())
    return rf"(?<!\w){literal}(?!\w|://)" if is_word else literal


def _plain(name: str) -> str:
    return name.upper().replace(".", "_").replace("-", "_")


@lru_cache(maxsize=64)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(_plain(glob)) for glob in globs) or r"(?!)", re.DOTALL)
