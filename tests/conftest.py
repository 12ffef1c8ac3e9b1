"""For every test: its group, and a PostgreSQL where the environment names none."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from config import embedded
from tests.support.programs import end_processes_below

GROUPS = ("unit", "db", "process", "cluster", "browser", "engines")
#: Set by config.settings.test; the folder's name ends with the process id of the run.
RUN_DIRECTORY = "SLIPWAY_TEST_RUN_DIRECTORY"

pytest_plugins = ["tests.support.fixtures"]

# Two shared cores make single examples slow without anything being wrong.
hypothesis_settings.register_profile(
    "slipway", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("slipway")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hold-kills",
        type=int,
        default=200,
        help="at how many random moments of a held apply somebody is killed, per engine",
    )
    for name, default, about in (
        ("--stress-tasks", 20, "how many tasks the test of everything that dies at random has"),
        ("--stress-kills", 14, "how often something dies in it"),
        ("--stress-seed", 1, "its seed"),
    ):
        parser.addoption(name, type=int, default=default, help=about)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its group, the first folder below tests/.

    Two whole platforms at once would only slow each other down: demos take turns.
    """
    root, parallel = Path(__file__).parent, config.pluginmanager.hasplugin("xdist")
    for item in items:
        group = item.path.relative_to(root).parts[0]
        if group in GROUPS:
            item.add_marker(group)
        if parallel and "demo_directory" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("demo"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Start this run's PostgreSQL before the first test database is made."""
    from django.conf import settings

    directory: Path = settings.TEST_RUN_DIRECTORY
    if settings.DATABASES["default"]["OPTIONS"].get("host") != str(directory / "postgres"):
        return  # DATABASE_URL names one
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:  # the workers of pytest-xdist race
        fcntl.flock(lock, fcntl.LOCK_EX)
        embedded.start(directory / "postgres", throw_away=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Clear away what killed runs left."""
    if not hasattr(session.config, "workerinput"):
        for directory in Path(tempfile.gettempdir()).glob("slipway-tests-*"):
            if not _alive(directory.name.rpartition("-")[2]):
                end_processes_below(directory)
                _remove(directory)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop and delete this run's PostgreSQL, once all workers have ended."""
    directory = Path(os.environ.get(RUN_DIRECTORY, "/nonexistent"))
    mine = directory.name == f"slipway-tests-{os.getpid()}"
    if mine and not hasattr(config, "workerinput") and directory.exists():
        _remove(directory)


def _alive(pid: str) -> bool:
    return not pid.isdigit() or Path("/proc", pid).exists()


def _remove(directory: Path) -> None:
    end_processes_below(directory / "apiserver")
    embedded.stop(directory / "postgres")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_inherited_terraform_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own Terraform settings must not decide a test."""
    for name in [name for name in os.environ if name.startswith("TF_")]:
        monkeypatch.delenv(name)
