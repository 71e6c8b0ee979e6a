"""Secrets: whatever is planted in a secret field, no output of ours shows it."""

import logging
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError, field_validator

from drakkar_flow.config.loading.load import from_mapping, load
from drakkar_flow.config.redact import SecretUrl, redacted, secrets_in
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import is_secret, sections
from drakkar_flow.config.show import render_yaml
from drakkar_flow.engine.identity import summary_of
from drakkar_flow.errors import ConfigError
from drakkar_flow.kernel.redaction import MASK

secrets = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=3, max_size=12).map(
    lambda text: f"hunter2{text}"
)
# In a URL as it is: urllib refuses what NFKC turns into a delimiter, so that is done beforehand.
url_secrets = secrets.map(lambda text: re.sub(r"[%\[\]]", "", unicodedata.normalize("NFKC", text)))


class Settings(BaseModel):
    """A user's own."""

    key: SecretStr = SecretStr("")
    api_token: str = ""


def everywhere(secret: str, in_url: str) -> dict[str, Any]:
    """A configuration with the secret at every place where one may stand."""
    sasl = {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "joe", "sasl_password": secret}
    security = sasl | {"ssl_key_password": secret}
    return {
        "kafka": {"security": security, "client_config": {"sasl.oauthbearer.client.secret": secret}},
        "executor": {"env": {"DB_PASSWORD": secret}},
        "sinks": {
            "kafka": {"a": {"topic": "t", "brokers": "b", "security": security}},
            "postgres": {"url": {"dsn": f"postgres://joe:{in_url}@db/app"}, "pairs": {"dsn": f"password={secret}"}},
            "mongo": {"a": {"uri": f"mongodb://joe:{in_url}@m1,m2:27017/app", "database": "d"}},
            "http": {"a": {"url": f"https://joe:{in_url}@host/path", "headers": {"Authorization": f"Bearer {secret}"}}},
            "redis": {"a": {"url": f"redis://:{in_url}@host:6379/0"}},
        },
        "dlq": {"security": security},
        "debug": {"auth_token": secret},
        "app": {"key": secret, "api_token": secret},
    }


def is_told(secret: str, text: str) -> bool:
    """Whether the secret stands in the text, as it is or as Python or YAML would quote it."""
    return any(form in text for form in (secret, repr(secret)[1:-1], yaml.safe_dump(secret).strip(), "hunter2"))


@given(secrets, url_secrets)
def test_a_planted_secret_is_shown_nowhere(secret: str, in_url: str) -> None:
    """Not by repr, str, what is shown, nor in a log line."""
    in_url = in_url.replace("/", "").replace("?", "").replace("#", "")
    config = from_mapping(everywhere(secret, in_url), app_model=Settings)
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s %r", (config, config.sinks), None)
    for output in (repr(config), str(config), repr(redacted(config)), record.getMessage(), summary_of(config, "", "")):
        assert not is_told(secret, output)


@given(secrets, url_secrets)
def test_a_planted_secret_is_in_no_problem(secret: str, in_url: str) -> None:
    """Whatever is wrong with it: not a text, not a URL, or something beside it."""
    data = everywhere(secret, in_url)
    data["sinks"]["postgres"]["url"]["dsn"] = [secret]
    data["sinks"]["postgres"]["pairs"]["pool_min"] = 99
    data["sinks"]["mongo"]["a"]["uri"] = f"postgres://joe:{in_url}@m1"
    data["sinks"]["http"]["a"]["url"] = f"ftp://joe:{in_url}@host"
    data["sinks"]["redis"]["a"]["url"] = secret
    data["kafka"]["security"]["sasl_mechanism"] = "NONE"
    data["app"]["key"] = {"a": secret}
    data["app"]["api_token"] = [secret]
    with pytest.raises(ConfigError) as caught:
        from_mapping(data, app_model=Settings)
    assert len(caught.value.problems) >= 6
    assert not is_told(secret, str(caught.value))


class Careless(BaseModel):
    """A model whose rules repeat what they are given."""

    key: SecretStr = SecretStr("")
    api_token: str = ""

    @field_validator("key", "api_token")
    @classmethod
    def _is_good(cls, value: SecretStr | str) -> SecretStr | str:
        text = value if isinstance(value, str) else value.get_secret_value()
        raise ValueError(f"{text!r} is not good, nor is {text}")


def test_the_user_of_a_database_is_no_secret_where_there_is_no_password() -> None:
    """Tables share its name, and errors have to name tables; elsewhere such a user is a token."""
    assert "joe" not in set(secrets_in([SecretUrl("postgresql://joe@db/joe"), SecretUrl("mongodb://joe@db")]))
    assert "t0ken" in set(secrets_in(SecretUrl("https://t0ken@api")))


def test_rules_of_the_users_own_tell_no_secrets() -> None:
    """Even when their messages repeat the value."""
    with pytest.raises(ConfigError) as caught:
        from_mapping({"app": {"key": "hunter2", "api_token": "hunter'2"}}, app_model=Careless)
    assert [problem.what for problem in caught.value.problems] == [
        f"'{MASK}' is not good, nor is {MASK}",
        f'"{MASK}" is not good, nor is {MASK}',
    ]


def test_pydantics_own_errors_show_no_values() -> None:
    """Of a configuration made in a program."""
    with pytest.raises(ValidationError) as caught:
        DrakkarConfig(**everywhere("hunter2", "hunter2") | {"debug": {"auth_token": ["hunter2"]}})
    assert "hunter2" not in str(caught.value)


def test_show_masks_secrets_with_their_places_readable(tmp_path: Path) -> None:
    """Hosts and paths stay, for they are what one looks for."""
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(everywhere("hunter2", "hunter2")))
    shown = render_yaml(load(path, environ={}, app_model=Settings))
    assert "hunter2" not in shown
    assert f"dsn: 'postgres://{MASK}@db/app'" in shown
    assert f"uri: 'mongodb://{MASK}@m1,m2:27017/app'" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://joe:p@ss/w@db:5432/app", f"postgres://{MASK}@db:5432/app"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("https://host/hook?key=1", f"https://host/hook?{MASK}"),
        ("postgres://joe:pw/db", MASK),
        ("host=db password=pw", MASK),
        ("", ""),
    ],
)
def test_a_url_shows_its_place_only(url: str, shown: str) -> None:
    """What can't be told apart from a password is hidden."""
    assert str(SecretUrl(url)) == shown
    assert repr(SecretUrl(url)) == f"SecretUrl({shown!r})"


@pytest.mark.parametrize("name", ["dsn", "uri", "url", "sasl_password", "ssl_key_password", "auth_token"])
def test_fields_that_hold_secrets_are_typed_as_such(name: str) -> None:
    """Wherever they stand."""
    kinds = [kind.model_fields[name].annotation for _, kind in sections() if name in kind.model_fields]
    assert kinds
    assert all(map(is_secret, kinds))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("http", {"url": "ftp://host"}),
        ("http", {"url": "https://"}),
        ("http", {"url": "https:///path"}),
        ("http", {"url": "host/path"}),
        ("http", {"url": "http://host:port/"}),
        ("mongo", {"uri": "http://host", "database": "d"}),
        ("redis", {"url": "redis://"}),
    ],
)
def test_an_address_must_be_a_url_with_a_host(kind: str, settings: dict[str, str]) -> None:
    """Of a scheme that the sink speaks."""
    with pytest.raises(ConfigError, match=rf"sinks\.{kind}\.a\.ur[li]: must be a URL with a host, like "):
        from_mapping({"sinks": {kind: {"a": settings}}})


PASSWORDS = ["PG/PW", "PG#PW", "PG?PW", "a/PGPW", "PGPW/", "#PGPW", "12/PGPW", "::PG/PW", "PG@/PW"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("url", ["postgres://joe:{}@db:5432/app", "postgresql://joe:{}@db/app"])
def test_g8_a_password_that_is_not_encoded_is_a_configuration_error_that_does_not_show_it(
    password: str, url: str
) -> None:
    """The key and the remedy are told."""
    with pytest.raises(ConfigError) as caught:
        from_mapping({"sinks": {"postgres": {"main": {"dsn": url.format(password)}}}})
    text = str(caught.value)
    assert "sinks.postgres.main.dsn" in text
    assert "percent-encode" in text or "brackets" in text
    assert "PW" not in text


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("postgres", {"dsn": "PGPW"}, "it has no '://'"),
        ("postgres", {"dsn": "mysql://joe:PGPW@db/app"}, "the scheme must be postgres or postgresql"),
        ("postgres", {"dsn": "postgres://joe:PGPW@db:x/app"}, "the port must be a number"),
        ("postgres", {"dsn": "postgres://joe:PGPW@db:99999/app"}, "the port must be a number"),
        ("mongo", {"uri": "mongodb://joe:PG/PW@m1,m2/", "database": "d"}, "'/' as %2F"),
        ("mongo", {"uri": "mongodb://joe:PGPW@m1:x/", "database": "d"}, "the port must be a number"),
        ("http", {"url": "https://joe:PG/PW@host/hook"}, "'/' as %2F"),
        ("redis", {"url": "redis://:PG/PW@host/0"}, "'/' as %2F"),
        ("redis", {"url": "redis://:PGPW@host/zero"}, "must be a number"),
        ("redis", {"url": "redis://h/0?db=x"}, "must be a number"),
        ("redis", {"url": "redis://h1:1,h2:2/0"}, "host"),
    ],
)
def test_g14_a_wrong_part_of_a_url_is_named_and_not_shown(kind: str, settings: dict[str, str], told: str) -> None:
    """For every sink with a URL."""
    with pytest.raises(ConfigError) as caught:
        from_mapping({"sinks": {kind: {"main": settings}}})
    text = str(caught.value)
    assert f"sinks.{kind}.main." in text
    assert told in text
    assert "PW" not in text


def test_several_hosts_and_sockets_are_addresses_too() -> None:
    """As the servers' own documentation writes them."""

    def ok(sinks: dict[str, Any]) -> None:
        config = from_mapping({"sinks": sinks})
        assert all(getattr(config.sinks, kind).keys() == named.keys() for kind, named in sinks.items())

    ok({"mongo": {"a": {"uri": "mongodb://m1:27017,m2:27018/?replicaSet=r", "database": "d"}}})
    ok({"redis": {"a": {"url": "unix:///run/redis.sock"}, "b": {"url": "rediss://joe:pw@host:6380/1"}}})
    ok({"http": {"a": {"url": "http://[::1]:8080/x"}, "b": {"url": "https://host/@me?to=a@b"}}})
    ok({"postgres": {"a": {"dsn": "postgresql:///app?host=/run/postgresql"}, "b": {"dsn": "postgres://h1:1,h2:2/app"}}})
    ok({"postgres": {"a": {"dsn": "postgres://joe:a%2Fb%23@db:5432/app?user=a@b"}}})
    ok({"mongo": {"a": {"uri": "mongodb://%2Ftmp%2Fmongodb-27017.sock", "database": "d"}}})


SHOWN = """
kafka: {security: {protocol: SASL_SSL, sasl_mechanism: PLAIN, sasl_username: joe, sasl_password: "${KAFKA_LOGIN}"}}
executor:
  env: {MYSQL_PWD: hunter2a, DATABASE_URL: "mysql://joe:hunter2b@db", GITHUB_PAT: hunter2c, X: "${DB_PASS}", LANG: C}
sinks:
  postgres: {main: {dsn: "postgres://${DBUSER}:${DBWORD}@db/app"}}
  http: {hook: {url: "${HOOK}", headers: {Authorization: "Bearer ${PARTNER}", X-Team: "${TEAM}"}}}
"""
VARIABLES = {
    "KAFKA_LOGIN": "hunter2d",
    "DB_PASS": "hunter2e",
    "DBUSER": "joe",
    "DBWORD": "hunter2f",
    "HOOK": "https://host/hunter2g",
    "PARTNER": "hunter2h",
    "TEAM": "blue",
    "COPY_OF_LOGIN": "hunter2d",
    "HOME": "/home/joe",
}


def test_g9_variables_of_the_configurations_secrets_are_withheld_from_programs(tmp_path: Path) -> None:
    """Those that it takes by `${NAME}` where a secret stands, and others that hold the same."""
    path = tmp_path / "p.yaml"
    path.write_text(SHOWN)
    config = load(path, environ=VARIABLES).config
    expected = ["COPY_OF_LOGIN", "DBUSER", "DBWORD", "DB_PASS", "HOOK", "KAFKA_LOGIN", "PARTNER"]
    assert config.withheld_variables(VARIABLES) == expected
    assert config.opened().withheld_variables(VARIABLES) == expected
    assert config.replaced(cluster_name="x").withheld_variables(VARIABLES) == expected


def test_g9_show_prints_none_of_them(tmp_path: Path) -> None:
    """Not those of `executor.env` either, nor what is filled in from a variable that is called like a secret."""
    path = tmp_path / "p.yaml"
    path.write_text(SHOWN)
    shown = render_yaml(load(path, environ=VARIABLES))
    assert re.findall("hunter2[a-fh]", shown) == []
    assert "LANG: C" in shown
    assert "X-Team: blue" in shown


def test_the_redactor_of_a_configuration_masks_its_secrets_anywhere(tmp_path: Path) -> None:
    """In whatever text, also decoded or encoded."""
    path = tmp_path / "p.yaml"
    path.write_text(SHOWN)
    redact = load(path, environ=VARIABLES | {"DBWORD": "hunter2%40f"}).config.redactor
    text = "hunter2d hunter2e hunter2%40f hunter2@f Bearer hunter2h 'hunter2a' hunter2b hunter2c"
    assert "hunter2" not in redact(text)
    assert redact("joe at db in blue") == "joe at db in blue"


@pytest.mark.parametrize("password", ["postgres", "kafka", "test", "x"])
def test_a_weak_password_does_not_garble_what_is_logged(password: str) -> None:
    """It is masked where it stands alone, not inside of words or as the scheme of a URL."""
    redact = from_mapping({"sinks": {"postgres": {"a": {"dsn": f"postgres://u:{password}@h"}}}}).redactor
    assert redact("postgresql://h/latest mykafkas prefix") == "postgresql://h/latest mykafkas prefix"
    assert redact("postgres://host/db") == "postgres://host/db"
