"""What programs see of this process's environment, and where they are found."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.environment import (
    base_environment,
    find_program,
    forget_programs,
    startup_problems,
)


def test_secrets_are_not_inherited_by_default() -> None:
    """The default globs keep the usual names of secrets back, in any case."""
    names = ("PATH", "HOME", "DK_X", "drakkar_y", "DB_PASSWORD", "Api_Token", "MY_KEY", "KEYS", "PG_DSN")
    parent = dict.fromkeys(names, "x")
    assert set(base_environment(ExecutorConfig(), parent)) == {"PATH", "HOME", "KEYS"}


def test_configured_variables_win_and_may_be_secret() -> None:
    """`executor.env` lies over what is inherited and is not filtered."""
    config = ExecutorConfig(env={"A": "2", "API_TOKEN": "given"})
    assert base_environment(config, {"A": "1", "B": "1"}) == {"A": "2", "B": "1", "API_TOKEN": "given"}


def test_nothing_is_inherited_when_told_so() -> None:
    """With env_inherit_parent off only configured variables are left."""
    assert base_environment(ExecutorConfig(env_inherit_parent=False, env={"A": "1"}), {"B": "1"}) == {"A": "1"}


def test_globs_ignore_case() -> None:
    """A glob in lower case denies a name in upper case."""
    assert base_environment(ExecutorConfig(env_inherit_deny=["abc_?"]), {"ABC_X": "1", "B": "2"}) == {"B": "2"}


WITHHELD = [
    "DATABASE_URL",
    "MYSQL_PWD",
    "PGPASSWORD",
    "DB_PASS",
    "GITHUB_PAT",
    "PRIVATE_KEY_PEM",
    "PRIVATE_KEY",
    "AUTHORIZATION",
    "SSH_AUTH_SOCK",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AZURE_CLIENT_SECRET",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBECONFIG",
    "SENTRY_DSN",
    "NPM_TOKEN",
    "NPM_CONFIG__AUTH",
    "SASL_USERNAME",
    "KAFKA_SASL_JAAS_CONFIG",
    "SLACK_WEBHOOK_URL",
    "REDISCLI_AUTH",
    "PGPASSFILE",
    "SSHPASS",
    "SESSION_COOKIE",
    "DOCKER_AUTH_CONFIG",
    "VAULT_TOKEN",
    "API_KEYS",
    "STRIPE_KEY_LIVE",
    "GPG_PASSPHRASE",
    "MYSQL_ROOT_PASSWORD",
    "KRB5CCNAME",
    "SQLALCHEMY_DATABASE_URI",
    "AZURE_STORAGE_CONNECTION_STRING",
    "TWINE_PASSWORD",
    "CI_JOB_TOKEN",
    "OPENAI_API_KEY",
    "apikey",
    "SMTP_PASS",
    "JWT",
    "TLS_PEM",
    "DB_PW",
    "JENKINS_PSW",
    "db_password",
    "DRAKKAR_X",
    "DK_X",
]
KEPT = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONPATH",
    "HTTP_PROXY",
    "https_proxy",
    "NO_PROXY",
    "USER",
    "PWD",
    "OLDPWD",
    "SHELL",
    "TERM",
    "VIRTUAL_ENV",
    "JAVA_HOME",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "XAUTHORITY",
    "DISPLAY",
    "TMPDIR",
    "HOSTNAME",
    "KUBERNETES_SERVICE_HOST",
    "WORKER_ID",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "BYPASS",
    "COMPASS",
    "KEYBOARD",
    "AUTHOR",
    "PATTERN",
    "KEYS",
    "MONKEY",
    "REDIS_HOST",
]


@pytest.mark.parametrize("name", WITHHELD)
def test_g9_variables_that_hold_secrets_are_not_inherited(name: str) -> None:
    """By the names that people really use."""
    assert base_environment(ExecutorConfig(), {name: "x"}) == {}


@pytest.mark.parametrize("name", KEPT)
def test_g9_what_programs_need_is_inherited(name: str) -> None:
    """Names that only look alike too."""
    assert base_environment(ExecutorConfig(), {name: "/x:y"}) == {name: "/x:y"}


@pytest.mark.parametrize(
    "value",
    [
        *("postgres://joe:pw@db/app", "http://joe:pw@proxy:3128", "redis://:pw@host", "https://ghp_x@github.com"),
        *("host=db password=pw", "Endpoint=sb://x;SharedAccessKey=abc=", "Bearer abcDEF123456", "AKIAABCDEFGHIJKLMNOP"),
        *("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "ghp_0123456789abcdefghij", "https://h/?token=abc"),
    ],
)
def test_g9_values_that_look_like_credentials_are_not_inherited(value: str) -> None:
    """Whatever the variable is called."""
    assert base_environment(ExecutorConfig(), {"STORE": value, "HOME": "/"}) == {"HOME": "/"}


def test_g9_env_inherit_says_what_is_inherited() -> None:
    """It goes over py-drakkar's keys, which keep their meaning where it is not given."""
    parent = {"HOME": "/", "DB_PASS": "x", "STORE": "redis://:pw@host"}

    def inherited(**settings: object) -> list[str]:
        return list(base_environment(ExecutorConfig.model_validate(settings), parent))

    assert inherited() == inherited(env_inherit="safe") == ["HOME"]
    assert inherited(env_inherit="all") == inherited(env_inherit_deny=[]) == list(parent)
    assert inherited(env_inherit="none") == inherited(env_inherit_parent=False) == []
    assert inherited(env_inherit="all", env_inherit_parent=False) == list(parent)
    assert inherited(env_inherit_deny=["HO*"]) == ["DB_PASS"]
    assert inherited(env_inherit="safe", env_inherit_deny=[], env={"A": "1"}) == ["HOME", "DB_PASS", "A"]


def test_bare_names_are_found_on_the_given_path(tmp_path: Path) -> None:
    """The child's PATH decides, not ours; a program that goes away is noticed once told so."""
    program = tmp_path / "drakkar-test-tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program(program.name, str(tmp_path)) == str(program)
    program.unlink()
    forget_programs()
    with pytest.raises(FileNotFoundError, match="drakkar-test-tool"):
        find_program(program.name, str(tmp_path))


def test_a_name_with_a_slash_is_taken_as_it_is() -> None:
    """Paths are not searched for."""
    assert find_program("./nope", "/bin") == "./nope"


def test_without_a_path_the_default_one_is_searched() -> None:
    """A program is found even when its environment has no PATH."""
    assert find_program("sh", None).endswith("/sh")


def test_an_ignored_sigchld_is_told_at_the_start() -> None:
    """The kernel would reap programs unseen: every task would fail, whatever it did."""
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert ["SIGCHLD" in problem.what for problem in startup_problems(ExecutorConfig(), {})] == [True]
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert startup_problems(ExecutorConfig(), {}) == []


@pytest.mark.parametrize("text", ["cat\n", "", "#!\ncat\n"], ids=["no line", "empty", "no name"])
def test_n1_a_script_that_names_no_interpreter_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    """The kernel executes no such text: every task would wait for it."""
    script = tmp_path / "script"
    script.write_text(text)
    script.chmod(0o755)
    (problem,) = startup_problems(ExecutorConfig(binary_path=str(script)), {})
    assert problem.where == "executor.binary_path"
    assert f"{str(script)!r} is text without a first line that names its interpreter, such as #!/bin/sh" in problem.what
