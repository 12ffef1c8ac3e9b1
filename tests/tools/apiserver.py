"""Builds a real kube-apiserver and its etcd from Go modules, into the tests' cache.

    python -m tests.tools.apiserver   prints the folder of the two programs

``apiserver/go.mod`` names the versions and ``go.sum`` their digests. Kubernetes keeps its own
libraries in its repository, so each needs a ``replace`` with the same version.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.tools.build import entry, go, target

SOURCE = Path(__file__).parent / "apiserver"
APISERVER, ETCD = "kube-apiserver", "etcd"
_PACKAGES = {
    APISERVER: "k8s.io/kubernetes/cmd/kube-apiserver",
    ETCD: "go.etcd.io/etcd/server/v3",
}
_VERSION = "k8s.io/component-base/version"


def programs() -> Path:
    """Return the folder with kube-apiserver and etcd; the first time takes some minutes."""
    digest = hashlib.sha256(target().encode())
    for file in [Path(__file__), *sorted(SOURCE.iterdir())]:
        digest.update(file.read_bytes())
    return entry("apiserver", digest.hexdigest()[:16], _build)


def version() -> str:
    """Return the version of Kubernetes that is built, for example v1.36.3."""
    found = re.search(r"k8s\.io/kubernetes (v[0-9.]+)", (SOURCE / "go.mod").read_text())
    assert found is not None, "go.mod names no k8s.io/kubernetes"
    return found[1]


def _build(directory: Path) -> None:
    major, minor, _ = version().removeprefix("v").split(".")
    # Without its version the server refuses to start.
    named = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {_VERSION}.{name}={value}" for name, value in named.items())])
    for program, package in _PACKAGES.items():
        output = str(directory / program)
        go("build", "-trimpath", "-ldflags", flags, "-o", output, package, cwd=SOURCE)


if __name__ == "__main__":
    print(programs())
