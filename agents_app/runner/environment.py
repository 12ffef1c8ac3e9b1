"""Terraform's environment, built from nothing: what is not listed here is not there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from agents_app.runner.errors import StepFailed
from agents_app.schema import Credential, Job
from tasks_app.environment_names import refusal
from tasks_app.redaction import secrets_in

#: Programs that provisioners, Git and SSH need; the only variable taken from the agent.
_PATH = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
#: Rides out an outage of the state endpoint (reliability F13).
_HTTP_RETRIES = "60"
#: A socket's path has at most 107 bytes, its own name up to 30 of them.
_SOCKET_FOLDER_BYTES_MAX = 75
_ELSEWHERE = "tmp-elsewhere"
_PREFIX = "slipway-run-"
_SECRETS = "secrets.json"
#: Terraform and its providers talk over a socket in the run's own folder without TLS, whose keys
#: cost each start of a provider some 20 ms (ADR 15). A workspace can set it to "" for a provider
#: that insists on TLS.
_DEFAULTS = {"TF_DISABLE_PLUGIN_TLS": "1"}
_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
#: Linux takes no longer string in an environment (MAX_ARG_STRLEN), its end included.
_STRING_BYTES_MAX = 128 * 1024 - 1


@dataclass(frozen=True)
class PrivateHome:
    """A HOME of one run, with its credentials and temporary files, removed afterwards."""

    path: Path

    @property
    def cli_config(self) -> Path:
        return self.path / "terraform.rc"

    @property
    def temporary(self) -> Path:
        """Where providers make their sockets: in HOME, or elsewhere if its path is too long."""
        elsewhere = self.path / _ELSEWHERE
        return Path(elsewhere.read_text()) if elsewhere.exists() else self.path / "tmp"


@contextmanager
def private_home(path: Path, job: Job, *, adopt: bool = False) -> Iterator[PrivateHome]:
    """Make the run's HOME at ``path`` for the body; afterwards it is gone.

    Args:
        adopt: keep one that a former agent process made: its Terraform may still use it.
    """
    try:
        if not (adopt and path.is_dir()):
            remove_home(path)
            (path / "tmp").mkdir(parents=True, mode=0o700)
            path.chmod(0o700)
            if len(os.fsencode(path / "tmp")) > _SOCKET_FOLDER_BYTES_MAX:
                _make_elsewhere(path)
            # An init writes its own; Terraform warns about a missing file.
            PrivateHome(path).cli_config.write_text("disable_checkpoint = true\n")
            _write_credentials(path, job)
            _write_secret(path / _SECRETS, json.dumps(secrets_of(job)))
            if job.ca_bundle:
                (path / "ca.pem").write_text(job.ca_bundle)
        yield PrivateHome(path)
    finally:
        remove_home(path)


def _make_elsewhere(path: Path) -> None:
    elsewhere = tempfile.mkdtemp(prefix=_PREFIX)
    try:
        (path / _ELSEWHERE).write_text(elsewhere)
    except OSError:
        os.rmdir(elsewhere)
        raise


def remove_home(path: Path) -> None:
    """Delete a run's HOME, whoever left it."""
    temporary = PrivateHome(path).temporary
    if temporary.name.startswith(_PREFIX) and temporary.is_absolute():  # a torn file is neither
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


def remembered_secrets(path: Path) -> list[str]:
    """Return the secrets of the run that made this HOME: its log must be redacted alike."""
    try:
        return list(json.loads((path / _SECRETS).read_text()))
    except (OSError, ValueError):
        return []


def _write_credentials(home: Path, job: Job) -> None:
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    git_lines, ssh_lines, known_hosts = [], [], []
    for number, credential in enumerate(job.credentials):
        if credential.kind == "ssh_key":
            key = ssh / f"key-{number}"
            _write_secret(key, credential.secret.rstrip("\n") + "\n")
            known_hosts.append(credential.known_hosts.rstrip("\n") + "\n")
            ssh_lines.append(
                f'Host {credential.host}\n  IdentityFile "{key}"\n  IdentitiesOnly yes\n'
                f"  User {credential.username or 'git'}\n"
            )
        elif credential.kind == "https_token":
            user = quote(credential.username or "oauth2", safe="")
            secret = quote(credential.secret, safe="")
            git_lines.append(f"https://{user}:{secret}@{credential.host}\n")
    _write_secret(ssh / "known_hosts", "".join(known_hosts))
    _write_secret(ssh / "config", "".join(ssh_lines))
    _write_secret(home / ".git-credentials", "".join(git_lines))
    _write_secret(home / ".gitconfig", "[credential]\n\thelper = store\n[gc]\n\tauto = 0\n")


def _write_secret(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)


def build(job: Job, home: PrivateHome) -> dict[str, str]:
    """Return the whole environment of a Terraform process.

    What pins the run comes last, so that no variable of the workspace replaces it: the state's
    address above all, which decides what state is written.

    Raises:
        StepFailed: a variable may not be set, or the system cannot pass it on.
    """
    own = {variable.name: variable.value for variable in job.environment}
    for name in own:
        if reason := refusal(name):
            raise StepFailed(f"The environment variable {name} is refused. {reason}")
    environment = _DEFAULTS | own
    environment |= {f"TF_VAR_{variable.name}": variable.value for variable in job.variables}
    proxy = {name: job.proxy[name] for name in _PROXY_NAMES if name in job.proxy}
    environment |= proxy
    environment |= {name.lower(): value for name, value in proxy.items()}
    environment |= {
        _token_name(credential): credential.secret
        for credential in job.credentials
        if credential.kind == "registry_token"
    }
    known_hosts = home.path / ".ssh" / "known_hosts"
    environment |= {
        "PATH": _PATH,
        "HOME": str(home.path),
        "TMPDIR": str(home.temporary),
        "LANG": "C.UTF-8",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "TF_CLI_CONFIG_FILE": str(home.cli_config),
        "TF_HTTP_RETRY_MAX": _HTTP_RETRIES,
        "CHECKPOINT_DISABLE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": (
            f"ssh -F {shlex.quote(str(home.path / '.ssh' / 'config'))} "
            f"-o UserKnownHostsFile={shlex.quote(str(known_hosts))} "
            "-o StrictHostKeyChecking=yes -o BatchMode=yes"
        ),
    }
    if job.ca_bundle:
        environment["SSL_CERT_FILE"] = environment["GIT_SSL_CAINFO"] = str(home.path / "ca.pem")
    if job.backend:
        address = job.backend.address
        environment |= {
            "TF_HTTP_ADDRESS": address,
            "TF_HTTP_LOCK_ADDRESS": address,
            "TF_HTTP_UNLOCK_ADDRESS": address,
            "TF_HTTP_USERNAME": job.backend.username,
            "TF_HTTP_PASSWORD": job.backend.password,
        }
    _check(environment)
    return environment


def _check(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        if len(f"{name}={value}".encode(errors="replace")) > _STRING_BYTES_MAX:
            raise StepFailed(
                f"{name.removeprefix('TF_VAR_')} is longer than the 128 KiB that a variable can "
                "have; put it into a file of the configuration."
            )
        if "\0" in value:
            raise StepFailed(f"{name.removeprefix('TF_VAR_')} holds a NUL byte; remove it.")


def _token_name(credential: Credential) -> str:
    """Return TF_TOKEN_<host> as Terraform spells it: dots become _, hyphens __."""
    host = credential.host.replace("-", "__").replace(".", "_")
    return f"TF_TOKEN_{host}"


def secrets_of(job: Job) -> list[str]:
    """Return every value of a job that must not appear in a log."""
    values = [s for v in job.variables if v.sensitive for s in secrets_in(v.value, hcl=v.hcl)]
    values += [s for v in job.environment if v.sensitive for s in secrets_in(v.value)]
    values += [credential.secret for credential in job.credentials]
    if job.backend:
        values.append(job.backend.password)
    return values
