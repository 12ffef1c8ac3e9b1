"""Parts that not every machine has: a test without one is skipped, in CI it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def in_ci() -> bool:
    """Whether a missing part is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def missing(reason: str) -> None:
    """Skip the test for ``reason``; in CI fail it."""
    if in_ci():
        pytest.fail(f"{reason} (in CI nothing may be missing)", pytrace=False)
    pytest.skip(reason)


def require(program: str) -> str:
    """Return the path of a program; without it the test is skipped, in CI it fails."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed")
    assert path is not None
    return path
