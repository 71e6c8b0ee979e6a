"""Configurations of py-drakkar: all of them load, and what became of a key is said once, with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.config.loading.legacy_keys import LEGACY_KEYS, Moved
from drakkar_flow.config.loading.load import from_mapping, load, load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import child, is_section, sections, type_at
from drakkar_flow.errors import ConfigError

YAMLS = Path(__file__).parents[1] / "yamls"


def problem_of(data: dict[str, Any]) -> str:
    """The one thing that is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        from_mapping(data)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize("version", ["0.9.2", "0.11", "2.4"])
def test_a_complete_configuration_of_py_drakkar_loads_with_exactly_these_notices(version: str) -> None:
    """What they are stands beside the file, line by line."""
    path = YAMLS / f"py-drakkar-{version}.yaml"
    notices = [str(notice).removeprefix(f"{path}:") for notice in load(path, environ={}).notices]
    assert notices == path.with_suffix(".notices").read_text().splitlines()


def leaves(tree: Any, kind: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every value of a file that stands at a key of the schema, with its path."""
    if not isinstance(tree, dict) or not (is_section(kind) or is_section(child(kind, "x"))):
        return [(path, tree)] if kind is not None else []
    return [leaf for key, value in tree.items() for leaf in leaves(value, child(kind, key), (*path, key))]


@pytest.mark.parametrize("version", ["0.9.2", "0.11", "2.4"])
def test_every_value_arrives_at_its_place(version: str) -> None:
    """Keys that are the same here have the file's values; secrets are compared in clear."""
    path = YAMLS / f"py-drakkar-{version}.yaml"
    config = load_config(path, environ={})
    for place, value in leaves(yaml.safe_load(path.read_text()), DrakkarConfig):
        found: Any = config
        for key in place:
            found = found[key] if isinstance(found, dict) else getattr(found, key)
        found = found.get_secret_value() if hasattr(found, "get_secret_value") else found
        if value is not None:
            assert found == value, place


def test_moved_values_arrive_in_their_new_form() -> None:
    """Hours become minutes, `raise` becomes `fail`; what stood under sources.kafka is the source."""
    config = load_config(YAMLS / "py-drakkar-2.4.yaml", environ={})
    assert (config.kafka.source_topic, config.kafka.consumer_group, config.kafka.max_poll_records) == (
        "orders",
        "scanners",
        50,
    )
    assert config.runtime.on_decode_error == "fail"
    assert config.debug.rotation_interval_minutes == 120
    assert config.debug.debug_url == "http://worker-1:8080"
    assert config.sinks.kafka["results"].delivery_timeout_s == 20
    assert config.dlq.on_failure == "drop"


MOVED = [key for key, fate in LEGACY_KEYS.items() if isinstance(fate, Moved)]


@pytest.mark.parametrize("former", [key for key in MOVED if key != "sinks.custom.*"])
def test_a_moved_key_leads_to_a_key_of_the_schema(former: str) -> None:
    """And is none itself."""
    fate = LEGACY_KEYS[former]
    assert isinstance(fate, Moved)
    assert type_at(tuple(fate.to.split("."))) is not None


def test_no_former_key_is_in_the_schema() -> None:
    """Who writes a feature takes its keys out of the table."""
    known = {".".join(map(str, (*path, name))) for path, kind in sections() for name in kind.model_fields}
    assert not known & set(LEGACY_KEYS)


def test_a_moved_key_beside_its_new_one_must_say_the_same(tmp_path: Path) -> None:
    """With another value both places are named; with the same it is a notice."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka:\n  source_topic: a\nsources:\n  kafka:\n    topic: b\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert [str(problem) for problem in caught.value.problems] == [
        (
            f"{path}:5:5 sources.kafka.topic: is now kafka.source_topic, which is given too, with another value, "
            f"at {path}:2:3 kafka.source_topic; keep kafka.source_topic only"
        )
    ]
    path.write_text("kafka:\n  source_topic: a\nsources:\n  kafka:\n    topic: a\n")
    assert len(load(path, environ={}).notices) == 1


def test_a_later_layer_wins_over_an_earlier_one_whatever_the_key_is_called(tmp_path: Path) -> None:
    """A variable sets what the file calls by its former name, and the other way round."""
    path = tmp_path / "p.yaml"
    path.write_text("sources: {kafka: {topic: file}}\n")
    assert load_config(path, environ={"DK_KAFKA__SOURCE_TOPIC": "env"}).kafka.source_topic == "env"
    path.write_text("kafka: {source_topic: file}\n")
    assert load_config(path, environ={"DK_SOURCES__KAFKA__TOPIC": "env"}).kafka.source_topic == "env"


def test_a_moved_value_that_is_wrong_is_blamed_where_it_stands(tmp_path: Path) -> None:
    """By the line of the old key, or by its variable."""
    path = tmp_path / "p.yaml"
    path.write_text("sources:\n  kafka:\n    max_poll_records: lots\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:3:5 kafka\.max_poll_records: must be a whole number, not 'lots'"):
        load(path, environ={})
    with pytest.raises(ConfigError, match="environment variable DK_SOURCES__KAFKA__MAX_POLL_RECORDS: must be a whole"):
        load(environ={"DK_SOURCES__KAFKA__MAX_POLL_RECORDS": "lots"})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"sources": {"kafka": {"topick": "x"}}}, "config sources.kafka.topick: unknown key; did you mean 'topic'?"),
        ({"uii": {}}, "config uii: unknown key; known keys are "),
        ({"ui": {"recorder": 3}}, "config ui.recorder: must be a section of keys and values"),
        ({"sources": {"http": {"enabled": True}}}, "config sources.http: unsupported: records come from Kafka"),
        ({"webapp": {"enabled": "true"}}, "config webapp: unsupported: records come from Kafka only"),
        ({"sources": {"kafka": {"enabled": False}}}, "config sources.kafka.enabled: unsupported"),
        ({"sinks": {"custom": {"s3": {"a": {}}}}}, "config sinks.s3: unknown key; known keys are kafka, "),
        ({"debug": {"port": "x"}}, "config debug.port: must be a whole number, not 'x'"),
        ({"cache": {"peer_sync": {"cycle_deadline_seconds": 30}}}, "config cache.peer_sync: cycle_deadline_seconds"),
        ({"ui": {"port": 0}}, "config debug.port: must be at least 1, not 0"),
    ],
)
def test_what_would_do_harm_or_is_wrong_is_refused(data: dict[str, Any], problem: str) -> None:
    """Each with its place and the reason."""
    assert problem_of(data).startswith(problem)


@pytest.mark.parametrize(
    "data",
    [
        {"debug": {"enabled": False, "port": 1}},
        {"cache": {"max_memory_entries": 3}},
        {"kafka": {"ui_url": ""}},
        {"sinks": {"custom": {}}},
        {"ui": None, "sources": {"kafka": None}},
    ],
)
def test_nothing_is_said_of_what_is_switched_off(data: dict[str, Any]) -> None:
    """Who wants no web page has none."""
    assert from_mapping(data).notices == ()


def test_alignment_that_is_tuned_but_not_switched_on_is_noticed() -> None:
    """In py-drakkar it is on by default, so who tunes it expects it."""
    (notice,) = from_mapping({"kafka": {"startup_min_wait_seconds": 8}}).notices
    assert str(notice).startswith("config kafka.startup_min_wait_seconds: accepted, but kafka.startup_align_enabled")
    for enabled in (True, False):
        assert not from_mapping({"kafka": {"startup_align_enabled": enabled, "startup_min_wait_seconds": 8}}).notices


def test_a_configuration_made_in_a_program_has_notices_too() -> None:
    """Without a file the path says where."""
    (notice,) = DrakkarConfig(debug={"enabled": True, "max_ui_rows": 200}).notices
    expected = "debug.max_ui_rows: accepted, but there is no web page in this version to show it; it has no effect"
    assert str(notice) == expected


def test_notices_survive_a_change_of_sections() -> None:
    """What a start changes loses none of them."""
    config = from_mapping({"sources": {"kafka": {"topic": "a"}}})
    assert config.replaced(cluster_name="north").notices == config.notices
    assert len(config.notices) == 1


KEYS = sorted({part for key in LEGACY_KEYS for part in key.split(".")} | {"kafka", "enabled", "x"})
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("true")),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), trees, max_size=5))
def test_any_tree_of_former_keys_loads_or_is_explained(data: dict[str, Any]) -> None:
    """Whatever shape the sections have."""
    try:
        assert isinstance(from_mapping(data), DrakkarConfig)
    except ConfigError as error:
        explained(error)


def explained(error: ConfigError) -> None:
    """Every problem says where and what."""
    for problem in error.problems:
        assert problem.where
        assert problem.what
