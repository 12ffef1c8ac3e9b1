"""Fixtures for all groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.requirements import missing, require
from tests.tools import build


@pytest.fixture(scope="session")
def terraform() -> str:
    """The path of the Terraform (or OpenTofu) on this machine."""
    import shutil

    return shutil.which("terraform") or shutil.which("tofu") or require("terraform")


@pytest.fixture(scope="session")
def provider_mirror() -> Path:
    """An unpacked filesystem mirror with slipway/fault and hashicorp/time."""
    require("go")
    return _built(build.unpacked_mirror)


@pytest.fixture(scope="session")
def zipped_provider_mirror() -> Path:
    """The same packages as zip archives."""
    require("go")
    return _built(build.zipped_mirror)


@pytest.fixture(scope="session")
def large_provider_mirror() -> Path:
    """An unpacked mirror with slipway/fault-large: the fault provider, padded to 500 MB."""
    require("go")
    return _built(build.large_mirror)


def _built(make: object) -> Path:
    assert callable(make)
    try:
        path = make()
    except build.BuildFailed as error:
        missing(f"the test providers cannot be built: {error}")
    assert isinstance(path, Path)
    return path
