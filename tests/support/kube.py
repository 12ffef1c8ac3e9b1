"""A throw-away Kubernetes API: a real etcd and kube-apiserver on free ports of loopback.

There is no scheduler, no controller manager and no kubelet: `tests.support.kubelet` makes pods
run. The administrator's token comes from a file; everybody else is a service account, and RBAC
decides what they may do.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client

from pods_app.cluster.transport import Transport
from tests.support.programs import ROOT, Program, wait_until
from tests.tools import apiserver

ADMIN_TOKEN = "token-of-the-administrator"
_SHARED = "apiserver"
_ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class Access:
    """How to reach the API: enough for another process."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, name: str, token: str, namespace: str, url: str = "") -> Path:
        """Write a kubeconfig with a bearer token; ``url`` names a proxy before the API."""
        path = self.directory / f"kubeconfig-{namespace}-{name}.yaml"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [
                {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
            ],
            "users": [{"name": "u", "user": {"token": token}}],
            "clusters": [{"name": "c", "cluster": self._cluster(url)}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def _cluster(self, url: str) -> dict[str, str]:
        if url:
            return {"server": url}
        certificate = str(self.directory / "certificates" / "apiserver.crt")
        return {"server": self.url, "certificate-authority": certificate}

    def admin(self) -> Transport:
        """Return a client that may do everything; it speaks of plain dictionaries."""
        configuration = client.Configuration(
            host=self.url,
            ssl_ca_cert=str(self.directory / "certificates" / "apiserver.crt"),
            api_key={"BearerToken": ADMIN_TOKEN},
            api_key_prefix={"BearerToken": "Bearer"},
            retries=False,
        )
        return Transport(client.ApiClient(configuration))


class ApiServer:
    """Starts, restarts and ends etcd and kube-apiserver, whose files are below ``directory``."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        client_port, peer_port, port = _free_ports(3)
        self.access = Access(directory, port)
        key = directory / "service-accounts.key"
        key.write_bytes(_private_key())
        (directory / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        etcd_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        self.etcd_url = etcd_url
        self.etcd = self._program(
            programs / apiserver.ETCD,
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self.server = self._program(
            programs / apiserver.APISERVER,
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory / 'certificates'}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            # There is no controller that would make the accounts it wants to see.
            "--disable-admission-plugins=ServiceAccount",
        )

    def _program(self, program: Path, *arguments: str) -> Program:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        log = self.directory / f"{program.name}.log"
        return Program(program.name, [str(program), *arguments], environment, log, self.directory)

    def start(self) -> None:
        """Start what does not run, and wait until the API is ready."""
        for program in (self.etcd, self.server):
            if not program.alive:
                program.start()
        wait_until(self._ready, "the API server is ready")

    def _ready(self) -> bool:
        assert self.etcd.alive, self.etcd.log_end()
        assert self.server.alive, self.server.log_end()
        pool = urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=self._certificate())
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        try:
            url = f"{self.access.url}/readyz"
            return pool.request("GET", url, headers=headers, retries=False).status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        finally:
            pool.clear()

    def _certificate(self) -> str:
        return str(self.directory / "certificates" / "apiserver.crt")

    def stop(self) -> None:
        for program in (self.server, self.etcd):
            program.kill()


def shared(directory: Path) -> Access:
    """Return the API server of this run, started by the first process that asks.

    It outlives that process and ends with the run, by `tests.conftest`.
    """
    place = directory / _SHARED
    with _locked(directory):
        note = place / "port"
        if not note.exists():
            programs = apiserver.programs()
            command = [sys.executable, "-m", "tests.support.kube", str(place), str(programs)]
            subprocess.run(command, cwd=ROOT, check=True)
        return Access(place, int(note.read_text()))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "apiserver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_and_leave(place: Path, programs: Path) -> None:
    server = ApiServer(place, programs)
    server.start()
    (place / "port").write_text(str(server.access.port))
    # Without Python's warning that the two still run: they are meant to.
    os._exit(0)


def _private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    _start_and_leave(Path(sys.argv[1]), Path(sys.argv[2]))
