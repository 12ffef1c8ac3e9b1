"""Scenarios: a platform of real processes per test, whose logs a failed test shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.support.configurations import Counter, Gate
from tests.support.platform import Platform, StartPlatform

_platforms = pytest.StashKey[list[Platform]]()
_numbers = itertools.count(1)


@pytest.fixture
def start_platform(
    request: pytest.FixtureRequest, transactional_db: None, terraform: str
) -> Iterator[StartPlatform]:
    """Return a function that starts a platform with Slipway's settings by name."""
    with ExitStack() as stack:

        def start(**overrides: str) -> Platform:
            name = f"platform-{request.node.name[:40].rstrip(']')}-{next(_numbers)}"
            directory: Path = settings.TEST_RUN_DIRECTORY / _worker(request) / name
            platform = Platform(directory, overrides)
            remember(request, platform)
            return stack.enter_context(platform)

        yield start


def remember(request: pytest.FixtureRequest, platform: Platform) -> None:
    """Should the test fail, the logs of the platform's programs are shown."""
    request.node.stash.setdefault(_platforms, []).append(platform)


@pytest.fixture
def platform(start_platform: StartPlatform) -> Platform:
    """A platform with the usual settings of tests: a server, no agent yet."""
    return start_platform()


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    """Counts what was really applied."""
    return Counter(tmp_path / "counter")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Lets applies go on that wait for it."""
    return Gate(tmp_path / "gate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Any:  # a generator for pluggy
    """Attach the logs of the platform's programs to a failed test."""
    report: pytest.TestReport = yield
    if report.failed:
        for platform in item.stash.get(_platforms, []):
            report.sections += list(platform.report())
    return report


def _worker(request: pytest.FixtureRequest) -> str:
    workerinput: dict[str, str] = getattr(request.config, "workerinput", {})
    return workerinput.get("workerid", "main")
