"""Terraform's environment is built from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents_app.runner.environment import (
    PrivateHome,
    build,
    private_home,
    remembered_secrets,
    remove_home,
    secrets_of,
)
from agents_app.runner.errors import StepFailed
from agents_app.schema import Credential, Job
from tests.support.runner import (
    Source,
    backend,
    environment_variable,
    job,
    tar_gz,
    variable,
)

_SOURCE = Source(tar_gz({"main.tf": ""}))


def _build(tmp_path: Path, one: Job) -> dict[str, str]:
    with private_home(tmp_path / "home", one) as home:
        return build(one, home)


def test_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "TF_LOG", "TF_CLI_ARGS_apply", "LD_PRELOAD", "SECRET"):
        monkeypatch.setenv(name, "inherited")
    environment = _build(tmp_path, job(_SOURCE))
    assert "inherited" not in environment.values()
    assert set(environment) == {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "TF_IN_AUTOMATION",
        "TF_INPUT",
        "TF_CLI_CONFIG_FILE",
        "TF_HTTP_RETRY_MAX",
        "CHECKPOINT_DISABLE",
        "TF_DISABLE_PLUGIN_TLS",
        "GIT_TERMINAL_PROMPT",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_SSH_COMMAND",
    }


def test_the_workspaces_variables_are_there(tmp_path: Path) -> None:
    one = job(
        _SOURCE,
        variables=[variable("size", "3")],
        environment=[environment_variable("AWS_REGION", "eu-1")],
        proxy={"HTTPS_PROXY": "http://proxy", "PATH": "/evil"},
        credentials=[Credential(kind="registry_token", host="my-host.example.org", secret="tok")],
    )
    environment = _build(tmp_path, one)
    assert environment["TF_VAR_size"] == "3" and environment["AWS_REGION"] == "eu-1"
    assert environment["https_proxy"] == environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["TF_TOKEN_my__host_example_org"] == "tok"
    assert environment["PATH"] != "/evil"


def test_a_workspace_may_want_tls_between_terraform_and_its_providers(tmp_path: Path) -> None:
    """An empty value is how Terraform is told so."""
    one = job(_SOURCE, environment=[environment_variable("TF_DISABLE_PLUGIN_TLS", "")])
    assert _build(tmp_path, one)["TF_DISABLE_PLUGIN_TLS"] == ""


@pytest.mark.parametrize(
    "name",
    ["PATH", "path", "TF_HTTP_ADDRESS", "TF_CLI_ARGS_apply", "TF_WORKSPACE", "TF_DATA_DIR",
     "LD_PRELOAD", "GIT_SSH_COMMAND", "TF_REATTACH_PROVIDERS", "HOME", "TF_VAR_x", "a b"],
)  # fmt: skip
def test_names_that_change_the_run_are_refused_here_too(tmp_path: Path, name: str) -> None:
    one = job(_SOURCE, environment=[environment_variable(name, "x")])
    with pytest.raises(StepFailed, match="refused"):
        _build(tmp_path, one)


def test_the_state_is_pinned(tmp_path: Path) -> None:
    environment = _build(tmp_path, job(_SOURCE, backend=backend("https://server/state/1")))
    for name in ("TF_HTTP_ADDRESS", "TF_HTTP_LOCK_ADDRESS", "TF_HTTP_UNLOCK_ADDRESS"):
        assert environment[name] == "https://server/state/1"
    assert environment["TF_HTTP_PASSWORD"] == "backend-password"


@pytest.mark.parametrize("value", ["x" * 200_000, "a\0b"])
def test_what_the_system_cannot_pass_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(StepFailed, match="big"):
        _build(tmp_path, job(_SOURCE, variables=[variable("big", value)]))


def test_credentials_lie_in_a_home_that_is_gone_afterwards(tmp_path: Path) -> None:
    one = job(
        _SOURCE,
        credentials=[
            Credential(
                kind="ssh_key", host="git.example.org", secret="KEY", known_hosts="git ssh-x AAA"
            ),
            Credential(kind="https_token", host="hub.example.org", secret="p@ss/word"),
        ],
        ca_bundle="PEM",
    )
    path = tmp_path / "home"
    with private_home(path, one) as home:
        assert path.stat().st_mode & 0o777 == 0o700
        key = path / ".ssh" / "key-0"
        assert key.read_text() == "KEY\n" and key.stat().st_mode & 0o777 == 0o600
        assert "oauth2:p%40ss%2Fword@hub.example.org" in (path / ".git-credentials").read_text()
        assert build(one, home)["SSL_CERT_FILE"] == str(path / "ca.pem")
        assert remembered_secrets(path) == secrets_of(one)
    assert not path.exists() and remembered_secrets(path) == []


def test_a_home_is_adopted_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    (path / "secrets.json").write_text(json.dumps(["old"]))
    with private_home(path, job(_SOURCE), adopt=True):
        assert remembered_secrets(path) == ["old"]
    assert not path.exists()


def test_sockets_of_providers_fit_their_path(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    with private_home(long / "home", job(_SOURCE)) as home:
        temporary = home.temporary
        assert len(str(temporary)) < 75 and temporary.is_dir()
        assert temporary.stat().st_mode & 0o777 == 0o700
    assert not temporary.exists()


@pytest.mark.parametrize("torn", ["", ".", "/", "slipway-run-x"])
def test_a_torn_note_deletes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slipway-run-x").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "tmp-elsewhere").write_text(torn)
    assert PrivateHome(home).temporary == Path(torn)
    remove_home(home)
    assert (tmp_path / "slipway-run-x").is_dir() and not home.exists()


def test_every_secret_is_known_to_the_redactor() -> None:
    one = job(
        _SOURCE,
        variables=[variable("a", "secret-one", sensitive=True), variable("b", "plain")],
        environment=[environment_variable("C", "secret-two", sensitive=True)],
        credentials=[Credential(kind="registry_token", host="h", secret="three")],
        backend=backend("https://server", "four"),
    )
    assert secrets_of(one) == ["secret-one", "secret-two", "three", "four"]
