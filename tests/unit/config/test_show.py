"""Showing a configuration: nothing secret, everything with its origin, and loadable again."""

from pathlib import Path

import pytest

from drakkar_flow.config.loading.load import from_mapping, load, load_config
from drakkar_flow.config.redact import redacted
from drakkar_flow.config.show import render_yaml
from drakkar_flow.kernel.redaction import MASK, mask


def test_secrets_are_masked() -> None:
    """Secret fields, secret-sounding names in free mappings at any depth, credentials in URLs."""
    config = from_mapping(
        {
            "kafka": {
                "brokers": "SASL_SSL://joe:pw1@k:1",
                "security": {
                    "protocol": "SASL_SSL",
                    "sasl_mechanism": "PLAIN",
                    "sasl_username": "joe",
                    "sasl_password": "pw2",
                },
                "client_config": {"sasl.oauthbearer.client.secret": "pw3", "linger.ms": 3},
            },
            "executor": {"env": {"API_TOKEN": "pw4", "LANG": "C", "DATABASE": "postgres://u:p/w@5@db/x"}},
            "app": {"tokens": {"a": ["pw5", None]}, "list": [{"dsn_password": "pw6"}], "limit": 3},
        }
    )
    shown = redacted(config)
    assert "pw" not in repr(shown)
    assert "p/w" not in repr(shown)
    assert shown["kafka"]["security"]["sasl_password"] == MASK
    assert shown["kafka"]["security"]["ssl_key_password"] == ""
    assert shown["kafka"]["client_config"] == {"sasl.oauthbearer.client.secret": MASK, "linger.ms": 3}
    assert shown["executor"]["env"] == {"API_TOKEN": MASK, "LANG": "C", "DATABASE": f"postgres://{MASK}@db/x"}
    assert shown["app"] == {"tokens": {"a": [MASK, None]}, "list": [{"dsn_password": MASK}], "limit": 3}


def test_a_sink_that_is_called_like_a_secret_is_shown() -> None:
    """Names of sinks are no names of values."""
    config = from_mapping({"sinks": {"kafka": {"tokens": {"topic": "t"}}}})
    assert redacted(config)["sinks"]["kafka"]["tokens"]["topic"] == "t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:80/path", "http://host:80/path"),
        ("http://user@host/", f"http://{MASK}@host/"),
        ("http://user:a@b@host/", f"http://{MASK}@host/"),
        ("redis://:pw@host/0", f"redis://{MASK}@host/0"),
        ("http://host/?api_key=1&x=2", f"http://host/?api_key={MASK}&x=2"),
        ("joe@example.org", "joe@example.org"),
    ],
)
def test_urls_lose_their_credentials_only(text: str, shown: str) -> None:
    """Host and path stay readable."""
    assert mask(text) == shown


def test_yaml_tells_who_set_what(tmp_path: Path) -> None:
    """A comment for what was set, none for defaults."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka:\n  brokers: b:1\n")
    lines = render_yaml(load(path, environ={"DK_RUNTIME__WORKERS": "2"})).splitlines()
    assert f"  brokers: 'b:1'  # {path}:2:3" in lines
    assert "  workers: 2  # environment variable DK_RUNTIME__WORKERS" in lines
    assert "  source_topic: input-events" in lines


def test_shown_yaml_loads_to_the_same(tmp_path: Path) -> None:
    """Odd values too: line breaks, `${`, empty containers, keys that need quotes."""
    app = {
        "a: b": "x\ny # z",
        "$": "$${X} ${Y} $$${",
        "empty": {"l": [], "m": {}},
        "n": [None, True, 1.5, "1", "null", {"k": "\x85\u2028é"}],
        "": "'\"\\",
    }
    config = from_mapping({"app": app, "sinks": {"sqlite": {"db": {"path": "x"}}}})
    path = tmp_path / "p.yaml"
    path.write_text("app: {x: 1}")
    loaded = load(path, environ={}, overrides=config.model_dump(exclude={"kafka"}))
    path.write_text(render_yaml(loaded))
    again = load_config(path, environ={})
    assert again.model_dump() == config.model_copy(update={"app": app | {"x": 1}}).model_dump()
