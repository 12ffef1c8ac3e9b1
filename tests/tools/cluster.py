"""A Kubernetes cluster on this machine until Ctrl+C, for `scripts/demo --story --kubeconfig`.

    python -m tests.tools.cluster [DIRECTORY]      default: var/cluster

A real etcd and kube-apiserver on loopback, built the first time, which needs Go and takes some
minutes; a namespace with the accounts and rights of ``deploy/base/rbac.yaml``; and the kubelet of
the tests, which runs pods as processes of this machine. What an earlier run left in the folder is
deleted.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.kube import ApiServer
from tests.support.kubelet import Kubelet
from tests.support.namespaces import Space
from tests.support.programs import ROOT, Program, end_processes_below
from tests.tools import apiserver, build

NAMESPACE = "slipway"
#: One account with the rights that the shipped roles give to web and controller.
ACCOUNT = "slipway-demo"
_ROLES = {
    "slipway-pods": "Role",
    "slipway-templates": "Role",
    "slipway-token-review": "ClusterRole",
}
_TOKEN_SECONDS = 24 * 3600
#: After so long this kubelet hears of a pod that was removed by force.
_HEARS_SECONDS = 1.0


@dataclass
class _Machine:
    programs: list[Program] = field(default_factory=list)


def serve(directory: Path, stop: threading.Event) -> None:
    """Run a cluster in an empty folder until ``stop`` is set; ``kubeconfig`` there leads to it.

    Raises:
        BuildFailed: the API server could not be built.
        AssertionError: it did not start, or ended by itself; with the end of its log.
    """
    print("  Starting etcd and kube-apiserver (built first, if need be) …", flush=True)
    server = ApiServer(directory / "apiserver", apiserver.programs())
    try:
        server.start()
        space = Space(server.access, NAMESPACE)
        kubeconfig = account(space).rename(directory / "kubeconfig")
        with Kubelet(space, directory / "pods", _Machine()) as kubelet:
            kubelet.hears_after = _HEARS_SECONDS
            print(_welcome(server.access.url, kubeconfig), flush=True)
            while not stop.wait(1.0):
                for program in (server.etcd, server.server):
                    assert program.alive, f"{program.name} ended:\n{program.log_end()}"
    finally:
        server.stop()
        end_processes_below(directory)


def account(space: Space) -> Path:
    """Make the account, and write its kubeconfig."""
    space.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
    for name, kind in _ROLES.items():
        group = "rbac.authorization.k8s.io"
        space.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": f"{kind}Binding",
                "metadata": {"name": f"{ACCOUNT}-{name}"},
                "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT}],
            }
        )
    token = space.token(ACCOUNT, seconds=_TOKEN_SECONDS)
    path = space.access.kubeconfig(ACCOUNT, token, space.name)
    path.chmod(0o600)
    return path


def _welcome(url: str, kubeconfig: Path) -> str:
    shown = kubeconfig.relative_to(ROOT) if kubeconfig.is_relative_to(ROOT) else kubeconfig
    return f"""
Kubernetes {apiserver.version()} runs at {url}; its pods are processes of this machine.

In another terminal:

  scripts/demo --story --kubeconfig {shown}

Ctrl+C ends the cluster and its pods.
"""


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Empty the folder and keep others out of it."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = {entry.name for entry in directory.iterdir()}
    if entries and "lock" not in entries:
        raise SystemExit(f"{directory} holds files, none of an earlier run; name an empty folder.")
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"A cluster runs in {directory} already.") from None
        end_processes_below(directory)
        for name in ("apiserver", "pods"):
            shutil.rmtree(directory / name, ignore_errors=True)
        yield


def main() -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.cluster", description=__doc__.split("\n")[0]
    )
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "var" / "cluster")
    directory = parser.parse_args().directory.resolve()
    if shutil.which("go") is None:
        parser.error("the API server is built with Go 1.26 or newer, which is not on the PATH")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        with _alone_in(directory):
            serve(directory, stop)
    except (build.BuildFailed, AssertionError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
