"""Values given one by one: items of lists by their index, and `--set`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from drakkar_flow.config.loading.app import load_app_config
from drakkar_flow.config.loading.load import load, load_config
from drakkar_flow.config.show import render_yaml
from drakkar_flow.errors import ConfigError


class Client(BaseModel):
    """One of a list."""

    name: str
    rpm: int = 1
    key: SecretStr = SecretStr("")


class Settings(BaseModel):
    """A handler's own."""

    clients: list[Client] = []
    keys: list[SecretStr] = []


def written(tmp_path: Path, text: str) -> Path:
    """A file with the text."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    return path


def problems(path: Path | None = None, assignments: list[str] | None = None, **environ: str) -> list[str]:
    """What loading complains about."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ, app_model=Settings, assignments=assignments or [])
    return [str(problem) for problem in caught.value.problems]


# --- items of lists -------------------------------------------------------------------------------------


def test_an_item_goes_over_the_one_of_the_file(tmp_path: Path) -> None:
    """Or behind the last one; the others stay."""
    path = written(tmp_path, "kafka: {source_topics: [a, b]}\n")
    environ = {"DRAKKAR_KAFKA__SOURCE_TOPICS__1": "x", "DK_KAFKA__SOURCE_TOPICS__2": "y"}
    assert load_config(path, environ=environ).kafka.topics == ("a", "x", "y")


def test_items_make_a_list_where_there_is_none() -> None:
    """In the order of their indexes; a whole list as JSON is below its items."""
    names = {f"DRAKKAR_KAFKA__SOURCE_TOPICS__{n}": f"t{n}" for n in (2, 0, 1)}
    assert load_config(environ=names).kafka.topics == ("t0", "t1", "t2")
    whole = {"DRAKKAR_KAFKA__SOURCE_TOPICS": '["a", "b", "c", "d"]'}
    assert load_config(environ=whole | names).kafka.topics == ("t0", "t1", "t2", "d")


def test_the_parts_of_an_item_are_set_one_by_one(tmp_path: Path) -> None:
    """Numbers stay text until the model reads them; an item as a whole is JSON."""
    path = written(tmp_path, "app: {clients: [{name: a, rpm: 5}]}\n")
    environ = {
        "DK_APP__CLIENTS__0__RPM": "7",
        "DK_APP__CLIENTS__1": '{"name": "b", "rpm": 2}',
        "DK_APP__CLIENTS__1__RPM": "3",
        "APP_KEYS__0": "k",
    }
    app = load_config(path, environ=environ, app_model=Settings).app
    assert [(client.name, client.rpm) for client in app.clients] == [("a", 7), ("b", 3)]
    assert app.keys[0].get_secret_value() == "k"


def test_settings_of_no_type_have_items_where_the_file_has_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere a number is a key like any other."""
    path = written(tmp_path, "app: {hosts: [a, {port: 1}], by_code: {'404': x}}\n")
    environ = {"DRAKKAR_APP__HOSTS__1__PORT": "2", "DRAKKAR_APP__BY_CODE__404": "y", "DRAKKAR_APP__NEW__0": "z"}
    app = load_config(path, environ=environ).app
    assert app == {"hosts": ["a", {"port": "2"}], "by_code": {"404": "y"}, "new": {"0": "z"}}
    monkeypatch.setenv("APP_CLIENTS__0__NAME", "b")
    assert load_app_config(Settings, yaml_data={"app": {"clients": [{"name": "a"}]}}).clients[0].name == "b"


def test_a_moved_list_takes_items_and_json_as_well() -> None:
    """By its former name."""
    environ = {"DK_UI__ALLOWED_WS_ORIGINS": '["a", "b"]', "DK_UI__ALLOWED_WS_ORIGINS__1": "c"}
    assert load_config(environ=environ).debug.allowed_ws_origins == ["a", "c"]


def test_problems_with_items_name_their_variable(tmp_path: Path) -> None:
    """A gap, a wrong value, a wrong part, and no secret in any of them."""
    path = written(tmp_path, "kafka: {source_topics: [a]}\napp: {clients: [{name: a}]}\n")
    variable = "environment variable DK_"
    assert problems(path, DK_KAFKA__SOURCE_TOPICS__2="x") == [
        f"{variable}KAFKA__SOURCE_TOPICS__2: there is no item 1; count from 0, and leave none out"
    ]
    assert problems(path, DK_APP__CLIENTS__0__RPM="lots") == [
        f"{variable}APP__CLIENTS__0__RPM: must be a whole number, not 'lots'"
    ]
    assert problems(path, DK_APP__CLIENTS__1__RPN="1") == [
        f"{variable}APP__CLIENTS__1__RPN: unknown key; did you mean 'rpm'?",
        f"{variable}APP__CLIENTS__1__RPN app.clients[1].name: is missing; it has no default",
    ]
    told = problems(path, DK_APP__KEYS__0='["hush"]', DK_APP__CLIENTS__0__KEY='{"hush"', DK_APP__CLIENTS__1="hush")
    assert "hush" not in "".join(told)
    (problem,) = told
    assert problem.startswith(f"{variable}APP__CLIENTS__1: a section, mapping or list must be given as JSON; ")


def test_show_tells_who_set_an_item(tmp_path: Path) -> None:
    """Beside the origin of the list; secrets are masked."""
    path = written(tmp_path, "kafka: {source_topics: [a, b]}\n")
    environ = {"DK_KAFKA__SOURCE_TOPICS__1": "x", "DK_APP__KEYS__0": "hush"}
    shown = render_yaml(load(path, environ=environ, app_model=Settings))
    assert f"source_topics: [a, x]  # {path}:1:9, [1] environment variable DK_KAFKA__SOURCE_TOPICS__1\n" in shown
    assert "keys: ['********']  # [0] environment variable DK_APP__KEYS__0\n" in shown
    assert "hush" not in shown


@given(st.dictionaries(st.integers(0, 6), st.text("abc", min_size=1, max_size=3), max_size=6), st.integers(0, 4))
def test_items_lie_over_a_list_or_leave_a_gap_that_is_told(items: dict[int, str], size: int) -> None:
    """What comes out is the list with the items in their places, whenever there is no gap."""
    environ = {f"DK_EXECUTOR__ENV_INHERIT_DENY__{index}": text for index, text in items.items()}
    base = [f"t{n}" for n in range(size)]
    wanted = dict(enumerate(base)) | items
    overrides = {"DK_EXECUTOR__ENV_INHERIT_DENY": str(base).replace("'", '"')}
    if sorted(wanted) == list(range(len(wanted))):
        assert load_config(environ=overrides | environ).executor.env_inherit_deny == [wanted[n] for n in sorted(wanted)]
    else:
        with pytest.raises(ConfigError, match="there is no item"):
            load_config(environ=overrides | environ)


# --- --set ----------------------------------------------------------------------------------------------


def test_assignments_go_over_everything(tmp_path: Path) -> None:
    """The last one wins; values are read as those of variables are."""
    path = written(tmp_path, "kafka: {brokers: file, source_topics: [a, b]}\nexecutor: {max_executors: 1}\n")
    assignments = [
        "kafka.brokers=first",
        "kafka.brokers=host:9092=x",
        "kafka.source_topics[1]=y",
        'executor.env={"LANG": "C"}',
        "executor.env.PATH=/bin",
        "executor.max_executors=8",
        "kafka.client_config.fetch.min.bytes=5",
        "sinks.kafka.out.topic=t",
    ]
    config = load(path, environ={"DK_KAFKA__BROKERS": "variable"}, assignments=assignments).config
    assert (config.kafka.brokers, config.kafka.topics) == ("host:9092=x", ("a", "y"))
    assert (config.executor.env, config.executor.max_executors) == ({"LANG": "C", "PATH": "/bin"}, 8)
    assert (config.kafka.client_config, config.sinks.kafka["out"].topic) == ({"fetch.min.bytes": "5"}, "t")


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("kafka.brokerz=x", "--set kafka.brokerz: unknown key; did you mean 'brokers'?"),
        ("executor.max_executors=lots", "--set executor.max_executors: must be a whole number, not 'lots'"),
        ("kafka.source_topics=a", "--set kafka.source_topics: a section, mapping or list must be given as JSON; "),
        ("kafka.brokers", "--set kafka.brokers: sets no key; write it like --set kafka.brokers=localhost:9092"),
        ("kafka..brokers=x", "--set kafka..brokers: sets no key; "),
        ("=x", "--set : sets no key; "),
        ("kafka.source_topics[3]=x", "--set kafka.source_topics[3]: there is no item 0; "),
    ],
)
def test_problems_with_assignments_name_them(assignment: str, told: str) -> None:
    """As they were written, without the value."""
    (problem,) = problems(None, [assignment])
    assert problem.startswith(told)


def test_a_former_key_is_set_where_it_stands_now() -> None:
    """And told, as in a file."""
    loaded = load(environ={}, assignments=["sources.kafka.topic=orders"])
    assert loaded.config.kafka.source_topic == "orders"
    (notice,) = loaded.notices
    assert str(notice).startswith("--set sources.kafka.topic: is now kafka.source_topic")
