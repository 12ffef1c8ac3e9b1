"""Terraform's environment, built from nothing: what is not listed here is not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from agents_app.schema import Credential, Job

#: Programs that provisioners, Git and SSH need; the only variable taken from the agent.
_PATH = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
#: Rides out an outage of the state endpoint (reliability F13).
_HTTP_RETRIES = "60"


@dataclass(frozen=True)
class PrivateHome:
    """A HOME of one run, with its credentials and temporary files, removed afterwards."""

    path: Path

    @property
    def cli_config(self) -> Path:
        return self.path / "terraform.rc"


@contextmanager
def private_home(parent: Path, job: Job) -> Iterator[PrivateHome]:
    """Make the run's HOME below ``parent`` for the body."""
    home = parent / "home"
    shutil.rmtree(home, ignore_errors=True)
    (home / "tmp").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    try:
        _write_credentials(home, job)
        if job.ca_bundle:
            (home / "ca.pem").write_text(job.ca_bundle)
        yield PrivateHome(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


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
                f"Host {credential.host}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
                f"  User {credential.username or 'git'}\n"
            )
        elif credential.kind == "https_token":
            user = quote(credential.username or "oauth2", safe="")
            secret = quote(credential.secret, safe="")
            git_lines.append(f"https://{user}:{secret}@{credential.host}\n")
    _write_secret(ssh / "known_hosts", "".join(known_hosts))
    _write_secret(ssh / "config", "".join(ssh_lines))
    _write_secret(home / ".git-credentials", "".join(git_lines))
    _write_secret(home / ".gitconfig", "[credential]\n\thelper = store\n")


def _write_secret(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)


def build(job: Job, home: PrivateHome) -> dict[str, str]:
    """Return the whole environment of a Terraform process.

    The workspace's own variables come first, so that they never replace what pins the run:
    the state's address above all, which decides what state is written.
    """
    environment = {variable.name: variable.value for variable in job.environment}
    environment |= {f"TF_VAR_{variable.name}": variable.value for variable in job.variables}
    environment |= job.proxy
    environment |= {name.lower(): value for name, value in job.proxy.items()}
    environment |= {
        _token_name(credential): credential.secret
        for credential in job.credentials
        if credential.kind == "registry_token"
    }
    known_hosts = home.path / ".ssh" / "known_hosts"
    environment |= {
        "PATH": _PATH,
        "HOME": str(home.path),
        "TMPDIR": str(home.path / "tmp"),
        "LANG": "C.UTF-8",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "TF_CLI_CONFIG_FILE": str(home.cli_config),
        "TF_HTTP_RETRY_MAX": _HTTP_RETRIES,
        "CHECKPOINT_DISABLE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": (
            f"ssh -F {home.path / '.ssh' / 'config'} -o UserKnownHostsFile={known_hosts} "
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
    return environment


def _token_name(credential: Credential) -> str:
    """Return TF_TOKEN_<host> as Terraform spells it: dots become _, hyphens __."""
    host = credential.host.replace("-", "__").replace(".", "_")
    return f"TF_TOKEN_{host}"


def secrets_of(job: Job) -> list[str]:
    """Return every value of a job that must not appear in a log."""
    values = [v.value for v in job.variables if v.sensitive]
    values += [v.value for v in job.environment if v.sensitive]
    values += [credential.secret for credential in job.credentials]
    if job.backend:
        values.append(job.backend.password)
    return values
