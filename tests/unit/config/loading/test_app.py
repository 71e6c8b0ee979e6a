"""The app section: typed by a model of the user's, with the same report as everything else."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from drakkar_flow.config.docs import json_schema, markdown
from drakkar_flow.config.loading.app import load_app_config, resolve_app
from drakkar_flow.config.loading.load import from_mapping, load, load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import root_with
from drakkar_flow.config.show import render_yaml
from drakkar_flow.errors import ConfigError
from drakkar_flow.kernel.redaction import MASK


class Database(BaseModel):
    """Where scores are kept."""

    host: str = "localhost"
    password: SecretStr = SecretStr("")


class Settings(BaseModel):
    """Settings of a scanner."""

    limit: int = Field(ge=1)
    modes: list[str] = []
    database: Database = Database()
    links: dict[str, Database] = {}

    @field_validator("modes")
    @classmethod
    def _known(cls, modes: list[str]) -> list[str]:
        if "wild" in modes:
            raise ValueError("wild is no mode")
        return modes


def problems(call: Any) -> list[str]:
    """What a call complains about."""
    with pytest.raises(ConfigError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_the_section_becomes_an_instance_of_the_model(tmp_path: Path) -> None:
    """From the file, then the app's own variables, then ours."""
    path = tmp_path / "p.yaml"
    path.write_text("app: {limit: 1, database: {host: a}}\n")
    environ = {"APP_LIMIT": "2", "APP_DATABASE__HOST": "b", "DK_APP__DATABASE__HOST": "c", "APP_MODES": '["x"]'}
    app = load_config(path, environ=environ, app_model=Settings).app
    assert isinstance(app, Settings)
    assert (app.limit, app.database.host, app.modes) == (2, "c", ["x"])


def test_without_a_model_the_section_is_free() -> None:
    """And variables that begin with APP_ belong to others."""
    config = load_config(environ={"APP_LIMIT": "2", "DRAKKAR_APP__X__Y": "1"})
    assert config.app == {"x": {"y": "1"}}


def test_the_prefix_of_the_variables_can_be_chosen() -> None:
    """Variables of others with the same prefix are left alone."""
    environ = {"SCAN_LIMIT": "3", "SCAN_ELSE": "x", "APP_LIMIT": "2"}
    assert load_config(environ=environ, app_model=Settings, app_env_prefix="SCAN_").app.limit == 3


def test_its_problems_stand_in_the_report_with_line_and_column(tmp_path: Path) -> None:
    """Unknown keys at any depth, wrong values, the model's own rules; beside those of other sections."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "kafka: {brokerz: x}\n"
        "app:\n"
        "  limit: 0\n"
        "  limitt: 3\n"
        "  modes: [wild]\n"
        "  database: {hosts: a, password: 7}\n"
        "  links: {one: {port: 1}}\n"
    )
    told = problems(lambda: load(path, environ={}, app_model=Settings))
    assert sorted(line.removeprefix(f"{path}:") for line in told) == [
        "1:9 kafka.brokerz: unknown key; did you mean 'brokers'?",
        "3:3 app.limit: must be at least 1, not 0",
        "4:3 app.limitt: unknown key; did you mean 'limit'?",
        "5:3 app.modes: wild is no mode",
        "6:14 app.database.hosts: unknown key; did you mean 'host'?",
        f"6:24 app.database.password: must be text, not {MASK}; quote it",
        "7:17 app.links.one.port: unknown key; known keys are host, password",
    ]


def test_a_required_setting_is_missed_even_without_the_section() -> None:
    """It is named, not the whole section."""
    assert problems(lambda: load_config(environ={}, app_model=Settings)) == ["app.limit: is missing; it has no default"]


def test_a_model_that_says_what_becomes_of_unknown_keys_is_obeyed() -> None:
    """`extra` is the user's decision."""

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    assert from_mapping({"app": {"any": 1}}, app_model=Open).app.any == 1


def test_aliases_are_known_keys() -> None:
    """A key may be called differently outside."""

    class Aliased(BaseModel):
        limit: int = Field(alias="max-rows")

    assert from_mapping({"app": {"max-rows": 3}}, app_model=Aliased).app.limit == 3


def test_a_choice_between_models_is_pydantics_to_make() -> None:
    """The keys of one are no unknown keys of the other."""

    class File(BaseModel):
        kind: Literal["file"]
        path: str

    class Web(BaseModel):
        kind: Literal["web"]
        url: str

    class Choosing(BaseModel):
        source: File | Web = Field(discriminator="kind")
        more: list[File | Web] = []

    data = {"source": {"kind": "web", "url": "u"}, "more": [{"kind": "file", "path": "p"}]}
    assert from_mapping({"app": data}, app_model=Choosing).app.source == Web(kind="web", url="u")
    assert problems(lambda: from_mapping({"app": {"source": {"kind": "web"}}}, app_model=Choosing)) == [
        "config app.source.web.url: is missing; it has no default"
    ]


def test_a_model_that_holds_itself_is_fine() -> None:
    """Walking the schema ends."""

    class Tree(BaseModel):
        children: dict[str, "Tree"] = {}

    config = from_mapping({"app": {"children": {"a": {"children": {}}}}}, app_model=Tree)
    assert config.app.children["a"].children == {}
    assert "## `app.children.<name>`" in markdown(root_with(Tree))


def test_a_configuration_read_before_the_handler_was_known_is_settled_later() -> None:
    """With everything else as it was."""
    config = from_mapping({"app": {"limit": 5}, "sources": {"kafka": {"topic": "a"}}})
    settled = resolve_app(config, Settings)
    assert settled.app == Settings(limit=5)
    assert (settled.kafka, settled.notices) == (config.kafka, config.notices)
    assert resolve_app(settled, Settings) is settled
    assert resolve_app(config, None) is config
    assert problems(lambda: resolve_app(DrakkarConfig(app={"limit": 0, "x": 1}), Settings)) == [
        "app.x: unknown key; known keys are limit, modes, database, links",
        "app.limit: must be at least 1, not 0",
    ]


def test_it_is_shown_and_documented_like_every_section(tmp_path: Path) -> None:
    """Secrets masked, origins told, keys in the page and the JSON Schema."""
    path = tmp_path / "p.yaml"
    path.write_text("app: {limit: 5, database: {password: hunter2}}\n")
    loaded = load(path, environ={}, app_model=Settings)
    shown = render_yaml(loaded)
    assert f"  limit: 5  # {path}:1:7\n" in shown
    assert "hunter2" not in shown + repr(loaded.config)
    assert "| `limit` | integer, ≥ 1 | required |  |  |" in markdown(root_with(Settings))
    assert '"Settings"' in json_schema(root_with(Settings))


def test_types_of_any_kind_are_documented() -> None:
    """As far as a name can tell them."""

    class Odd(BaseModel):
        ports: list[Annotated[int, Field(ge=1)]] = []
        database: Annotated[Database, Field(title="x")] | None = None
        since: date | None = None
        anything: object = None
        pairs: dict = {}  # type: ignore[type-arg]  # a plain type
        made: list[str] = Field(default_factory=list)

    rows = [line for line in markdown(root_with(Odd)).splitlines() if line.startswith(("| `p", "| `s", "| `a", "| `m"))]
    for row in (
        "| `ports` | list of integer | `[]` |  |  |",
        "| `since` | date or null | `null` |  |  |",
        "| `anything` | object | `null` |  |  |",
        "| `pairs` | dict | `{}` |  |  |",
        "| `made` | list of text | computed |  |  |",
    ):
        assert row in rows
    assert "## `app.database`" in markdown(root_with(Odd))
    assert problems(lambda: from_mapping({"app": {"database": {"hosts": 1}}}, app_model=Odd)) == [
        "config app.database.hosts: unknown key; did you mean 'host'?"
    ]


def test_load_app_config_reads_the_section_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """py-drakkar's helper: any section's name, any prefix; the rest of the file is not looked at."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka: {nonsense: 1}\nmine:\n  limit: 5\n")
    monkeypatch.setenv("MINE_DATABASE__HOST", "db")
    settings = load_app_config(Settings, path, section="mine", env_prefix="MINE_")
    assert (settings.limit, settings.database.host) == (5, "db")
    path.write_text("mine:\n  limit: x\n")
    assert problems(lambda: load_app_config(Settings, path, section="mine")) == [
        f"{path}:2:3 app.limit: must be a whole number, not 'x'"
    ]
    assert load_app_config(Settings, yaml_data={"app": {"limit": 2}}).limit == 2
