"""A real API server per run, a namespace per test, and Slipway's settings that lead there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from tests.process.conftest import counter, gate, pytest_runtest_makereport, remember
from tests.support.kube import Access, shared
from tests.support.kubelet import Kubelet
from tests.support.namespaces import Space
from tests.support.platform import Platform
from tests.support.requirements import missing, require
from tests.tools import build

__all__ = ["counter", "gate", "pytest_runtest_makereport"]  # of the processes' tests


@pytest.fixture(scope="session")
def api_server() -> Access:
    """The API server of this run; it has no nodes."""
    require("go")
    try:
        return shared(django_settings.TEST_RUN_DIRECTORY)
    except build.BuildFailed as error:
        missing(f"the API server cannot be built: {error}")
        raise AssertionError("missing() raises") from error


@pytest.fixture
def space(api_server: Access) -> Iterator[Space]:
    """A namespace with the shipped accounts and roles."""
    made = Space(api_server)
    yield made
    made.close()


@pytest.fixture
def slipway(space: Space, settings: Any) -> Any:
    """Slipway's settings: it acts in the namespace with the rights of the shipped Role."""
    settings.SLIPWAY = dataclasses.replace(
        settings.SLIPWAY,
        kubeconfig=str(space.kubeconfig("slipway-controller")),
        cluster_namespace=space.name,
        agent_image="slipway.example/agent:test",
        url="https://slipway.example",
    )
    return settings.SLIPWAY


@pytest.fixture
def cluster_platform(
    request: pytest.FixtureRequest, transactional_db: None, terraform: str, space: Space
) -> Iterator[Platform]:
    """A server that reviews tokens, to be completed by a controller, and a kubelet.

    Each has the rights of its own shipped account; so has this process, as the controller.
    A test may give more settings by name, as the fixture's parameter.
    """
    directory: Path = django_settings.TEST_RUN_DIRECTORY / space.name
    overrides = {
        "kubeconfig": str(space.kubeconfig("slipway-controller")),
        "cluster_namespace": space.name,
        "agent_image": "slipway.example/agent:test",
        **getattr(request, "param", {}),
    }
    platform = Platform(directory, overrides)
    platform.server.environment["SLIPWAY_KUBECONFIG"] = str(space.kubeconfig("slipway-web"))
    remember(request, platform)
    with platform:
        yield platform


@pytest.fixture
def kubelet(
    cluster_platform: Platform, slipway: Any, space: Space, settings: Any
) -> Iterator[Kubelet]:
    """Makes the pods of the namespace run on this machine."""
    settings.SLIPWAY = dataclasses.replace(slipway, url=cluster_platform.proxy.url)
    directory = cluster_platform.directory / "pods"
    with Kubelet(space, directory, cluster_platform) as running:
        yield running
