"""The tests' Kubernetes API server, for benchmarks. It has no nodes: nothing runs in its pods."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import say
from benchmarks.result import CannotMeasure
from config.launch import BASE_DIR, fresh_directory
from tests.support.kube import ApiServer
from tests.support.namespaces import Space
from tests.tools import apiserver, build
from tests.tools.cluster import account

#: Beside the platform's folder, which is emptied when the platform starts.
_DIRECTORY = BASE_DIR / "var" / "benchmarks-cluster"
#: Leads to the namespace with the rights of all of Slipway's accounts, while a cluster runs.
KUBECONFIG = _DIRECTORY / "kubeconfig"


@contextmanager
def running_cluster() -> Iterator[Space]:
    """Run an API server with a namespace for the body.

    Raises:
        CannotMeasure: Go is missing, or does not build it.
    """
    if shutil.which("go") is None:
        raise CannotMeasure("Go is not installed; it builds the API server. Install Go 1.26.")
    say("Building and starting the API server (some minutes the first time)")
    try:
        programs = apiserver.programs()
    except build.BuildFailed as error:
        raise CannotMeasure(f"The API server cannot be built: {error}") from error
    server = ApiServer(fresh_directory(_DIRECTORY) / "apiserver", programs)
    try:
        server.start()
        space = Space(server.access)
        account(space).rename(KUBECONFIG)
        yield space
    finally:
        server.stop()
