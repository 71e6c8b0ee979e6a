"""What a configuration does to the parts: sinks of kinds to come, security of Kafka sinks, the handler's settings."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import BaseDrakkarHandler, DrakkarApp, StreamFlow, StreamingRunner, dataflow
from drakkar_flow.config.loading.load import from_mapping, load_config
from drakkar_flow.engine import build
from drakkar_flow.engine.entrypoint import app_options
from drakkar_flow.errors import ConfigError
from drakkar_flow.testing import FlowRun

SASL = {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "joe", "sasl_password": "pw"}


class Settings(BaseModel):
    """A handler's own."""

    limit: int = 3


class Scan(BaseDrakkarHandler[Any, Any]):
    """A handler with settings."""

    app_config_model = Settings
    app_env_prefix = "SCAN_"


def client_config(sink: dict[str, Any], kafka: dict[str, Any]) -> dict[str, Any]:
    """The librdkafka properties a Kafka sink is made with."""
    config = from_mapping({"kafka": {"brokers": "b:1", **kafka}, "sinks": {"kafka": {"a": {"topic": "t", **sink}}}})
    settings = build.with_brokers(config.sinks.kafka["a"], config.kafka)
    return {"bootstrap.servers": settings.brokers, **settings.client_config}


def test_a_sink_on_the_sources_brokers_shares_their_security_and_settings() -> None:
    """Its own settings go over them."""
    found = client_config(
        {"client_config": {"retries": 2}}, {"security": SASL, "client_config": {"retries": 1, "acks": 1}}
    )
    assert (found["bootstrap.servers"], found["sasl.password"], found["retries"], found["acks"]) == ("b:1", "pw", 2, 1)


def test_a_sink_with_security_of_its_own_uses_that() -> None:
    """Also to have none."""
    own = SASL | {"sasl_username": "ann"}
    assert client_config({"security": own}, {"security": SASL})["sasl.username"] == "ann"
    assert client_config({"security": {"protocol": "PLAINTEXT"}}, {"security": SASL}) == {"bootstrap.servers": "b:1"}


def test_a_sink_on_brokers_of_its_own_shares_nothing() -> None:
    """No password goes to brokers that are somebody else's."""
    kafka = {"security": SASL, "client_config": {"retries": 1}}
    assert client_config({"brokers": "c:1"}, kafka) == {"bootstrap.servers": "c:1"}
    assert client_config({"brokers": "c:1", "security": SASL}, kafka)["sasl.username"] == "joe"


@pytest.mark.parametrize("flow", [Scan, Scan(), StreamFlow.from_handler(Scan()), dataflow(Scan())])
def test_every_form_of_a_handler_tells_its_settings(flow: Any) -> None:
    """A class, an instance, its flow, what bytewax runs."""
    assert app_options(flow) == {"app_model": Settings, "app_env_prefix": "SCAN_"}


def test_a_flow_of_functions_has_no_settings() -> None:
    """The app section stays free."""
    assert app_options(StreamFlow("f").route()).get("app_model") is None


def test_every_way_to_run_types_the_app_section(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations read before the handler was known too."""
    monkeypatch.setenv("SCAN_LIMIT", "7")
    path = tmp_path / "p.yaml"
    path.write_text("app: {}\n")
    assert StreamingRunner.from_yaml(Scan(), path).config.app.limit == 7
    assert DrakkarApp(Scan(), path).config.app.limit == 7
    config = from_mapping({"app": {"limit": "9"}})
    assert StreamingRunner(Scan(), config).config.app.limit == 9
    assert StreamingRunner.from_dict(Scan(), {"app": {"limit": 9}}).config.app.limit == 9
    assert DrakkarApp(Scan(), config=config).config.app.limit == 9
    with pytest.raises(ConfigError, match=r"app\.limit: must be a whole number"):
        StreamingRunner(Scan(), from_mapping({"app": {"limit": "x"}}))


def test_a_configuration_knows_its_file_through_every_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the start tells; one that was given as values has none."""
    path = tmp_path / "p.yaml"
    path.write_text("app: {}\n")
    app = DrakkarApp(Scan(), path)
    assert str(app.config.file) == str(path)
    assert str(StreamingRunner(Scan(), load_config(path)).config.file) == str(path)
    assert str(app.config.opened().replaced(cluster_name="c").file) == str(path)
    monkeypatch.setenv("DK_CONFIG", str(path))
    assert str(DrakkarApp(Scan()).config.file) == f"{path} (the environment variable DK_CONFIG names it)"
    assert from_mapping({}).file is None


def test_what_bytewax_runs_finds_its_settings_like_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the flow's file, and a problem there ends the process with 2."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("DRAKKAR_CONFIG", "DK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    flow = "from drakkar_flow import StreamFlow, dataflow\nflow = dataflow(StreamFlow('x').route())\n"
    (tmp_path / "found_by_bytewax.py").write_text(flow)
    (tmp_path / "drakkar.yaml").write_text("kafka: {brokerz: b}\n")
    module = importlib.import_module("found_by_bytewax")
    with pytest.raises(SystemExit) as caught:
        module.flow()
    assert caught.value.code == 2
    assert f"{tmp_path}/drakkar.yaml:1:9 kafka.brokerz: unknown key" in capsys.readouterr().err


def test_the_testing_kit_types_the_app_section_too() -> None:
    """As every other way to run."""
    assert FlowRun(Scan(), config=from_mapping({"app": {"limit": "4"}})).config.app == Settings(limit=4)
    with pytest.raises(ConfigError, match=r"app\.limit: must be a whole number"):
        FlowRun(Scan(), config=from_mapping({"app": {"limit": "x"}}))
