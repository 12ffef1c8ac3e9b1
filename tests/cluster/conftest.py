"""A real API server per run, a namespace per test, and Slipway's settings that lead there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings

from tests.support.kube import Access, shared
from tests.support.namespaces import Space
from tests.support.requirements import missing, require
from tests.tools import build


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
