"""Reading the environment: which variables are meant for us, and what they set."""

import pytest

from drakkar_flow.config.loading.load import load_config
from drakkar_flow.errors import ConfigError


@pytest.mark.parametrize("prefix", ["DRAKKAR_", "DK_"])
def test_two_underscores_go_a_level_down(prefix: str) -> None:
    """Fields, names of sinks in lower case, and top-level keys."""
    config = load_config(
        environ={
            f"{prefix}KAFKA__MAX_POLL_RECORDS": "7",
            f"{prefix}SINKS__KAFKA__OUT__TOPIC": "results",
            f"{prefix}METRICS__ENABLED": "false",
            f"{prefix}RUNTIME__DRAIN_TIMEOUT_S": "2.5",
            f"{prefix}LOGGING__LEVEL": "debug",
            f"{prefix}CLUSTER_NAME": "north",
        }
    )
    assert (config.kafka.max_poll_records, config.metrics.enabled, config.runtime.drain_timeout_s) == (7, False, 2.5)
    assert (config.sinks.kafka["out"].topic, config.logging.level, config.cluster_name) == ("results", "DEBUG", "north")


def test_the_long_prefix_wins() -> None:
    """Whichever comes first in the environment."""
    config = load_config(environ={"DRAKKAR_CLUSTER_NAME": "long", "DK_CLUSTER_NAME": "short"})
    assert config.cluster_name == "long"


@pytest.mark.parametrize("name", ["DRAKKAR_CONFIG_DIR", "DK_CLUSTER", "DRAKKAR_TEST_KAFKA", "DRAKKAR_", "OTHER__X"])
def test_variables_of_others_are_left_alone(name: str) -> None:
    """A name that sets no key and has no `__` is not ours."""
    assert load_config(environ={name: "x"}) == load_config(environ={})


def test_an_unknown_section_is_a_problem() -> None:
    """With `__` it can only have been meant for us."""
    with pytest.raises(ConfigError, match="variable DRAKKAR_KAFKAA__BROKERS kafkaa: unknown key; did you mean 'kafka'"):
        load_config(environ={"DRAKKAR_KAFKAA__BROKERS": "x"})


def test_containers_are_json() -> None:
    """Sections, mappings and lists; deeper variables go over them; empty text leaves the default."""
    config = load_config(
        environ={
            "DRAKKAR_KAFKA": '{"brokers": "a", "source_topic": "b"}',
            "DRAKKAR_KAFKA__SOURCE_TOPIC": "c",
            "DRAKKAR_KAFKA__SOURCE_TOPICS": "",
            "DRAKKAR_KAFKA__CLIENT_CONFIG": '{"fetch.min.bytes": 5}',
            "DRAKKAR_EXECUTOR__ENV_INHERIT_DENY": '["X*"]',
        }
    )
    assert (config.kafka.brokers, config.kafka.topics) == ("a", ("c",))
    assert config.kafka.client_config == {"fetch.min.bytes": 5}
    assert config.executor.env_inherit_deny == ["X*"]


@pytest.mark.parametrize("text", ["a,b", "{", "[" * 5000])
def test_a_container_that_is_no_json_is_a_problem(text: str) -> None:
    """With the form to use."""
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"DK_KAFKA__SOURCE_TOPICS": text})
    (problem,) = caught.value.problems
    assert str(problem) == (
        "environment variable DK_KAFKA__SOURCE_TOPICS: a section, mapping or list must be given as JSON; "
        'write it like {"key": "value"} or ["item"]'
    )


def test_names_of_environment_variables_keep_their_case() -> None:
    """`executor.env` names variables of programs, everything else is lower-cased."""
    config = load_config(environ={"DRAKKAR_EXECUTOR__ENV__FOO_Bar": "1", "DRAKKAR_APP__LIMIT": "2"})
    assert config.executor.env == {"FOO_Bar": "1"}
    assert config.app == {"limit": "2"}


def test_something_missing_is_blamed_on_the_variable_that_began_it() -> None:
    """A sink made by a variable lacks its topic."""
    with pytest.raises(ConfigError, match=r"SINKS__KAFKA__OUT__BROKERS sinks\.kafka\.out\.topic: is missing"):
        load_config(environ={"DRAKKAR_SINKS__KAFKA__OUT__BROKERS": "x"})
