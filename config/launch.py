"""The whole platform on this machine: PostgreSQL, web, worker, controller and local agents.

python -m config.launch                what `scripts/server` runs: all of it until Ctrl+C
python -m config.launch COMMAND ...    `scripts/manage`: a management command on that platform
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

import httpx

from config import embedded, processes
from config.processes import Child, Failed

BASE_DIR = Path(__file__).resolve().parent.parent
_READY_SECONDS = 60
#: How long a running apply may take to end after Ctrl+C; a second one interrupts it, a third
#: cuts it.
_DRAIN_SECONDS = 60.0
_STOP_SECONDS = 15.0
#: One serves hundreds of agents. With two, the answer to who confirmed and the apply's own
#: requests do not wait for one interpreter.
_WEB_PROCESSES = 2
#: Below those that Linux gives to outgoing connections: one could take a port before its server.
_PORTS = range(15_000, 30_000)


@dataclass
class Platform:
    """One installation below ``directory``, which holds its database, secrets and logs.

    Use it as ``with Platform(...).running():``.

    Args:
        settings: environment variables of its processes, beside those it sets itself.
    """

    directory: Path
    port: int
    say: Callable[[str], None]
    settings: Mapping[str, str] = field(default_factory=dict)
    password: str = ""
    token: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    impatient: threading.Event = field(default_factory=threading.Event)
    cut: threading.Event = field(default_factory=threading.Event)
    _own_postgres: bool = False
    _children: list[Child] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of web pages and API."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start everything, and stop it after the body, or when starting fails.

        Raises:
            Failed: a step failed; the message ends with its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        processes.adopt_orphans()
        with self._sole(), self._signals():
            try:
                self._start()
                yield
            finally:
                self._stop()

    def manage(self, title: str, *arguments: str) -> str:
        """Run a management command; returns its standard output."""
        self.check()
        return processes.run(
            title,
            [sys.executable, "manage.py", *arguments],
            cwd=BASE_DIR,
            environment=self.environment,
            log=self._log("setup"),
        )

    def pids(self, name: str) -> list[int]:
        """Return the ids of the processes that are ``web``, ``worker`` or ``controller``."""
        return [child.process.pid for child in self._children if child.name == name]

    def log_end(self, name: str) -> str:
        """Return the end of a process's log, with its path."""
        return processes.log_end(self._log(name))

    def check(self) -> None:
        """Raise Failed when a process ended that should run, or somebody asked to stop."""
        if self.stop.is_set():
            raise KeyboardInterrupt
        for child in self._children:
            if child.process.poll() is not None:
                code = child.process.returncode
                raise Failed(
                    f"{child.name} ended with code {code}.\n{processes.log_end(child.log)}"
                )

    # --- starting and stopping ---------------------------------------------------------------

    def _start(self) -> None:
        self.environment = {**surroundings(self.directory, self.url), **self.settings}
        self.password = self.environment["SLIPWAY_ADMIN_PASSWORD"]
        if "DATABASE_URL" in os.environ:
            self.say("Using the PostgreSQL of DATABASE_URL")
        else:
            self.say("Starting PostgreSQL")
            self._own_postgres = True
            try:
                url = embedded.start(self.directory / "postgres")
            except embedded.EmbeddedError as error:
                raise Failed(str(error)) from error
            self.environment["DATABASE_URL"] = url
        self.say("Preparing the database")
        self.manage("Preparing the database", "migrate", "--no-input", "--verbosity", "0")
        self.say("Collecting static files")
        self.manage("Collecting static files", "collectstatic", "--no-input", "--verbosity", "0")
        seeded = json.loads(self.manage("Making the first user", "seed_installation"))
        self.token = seeded["token"]
        self.say("Starting web, worker and controller")
        self._begin_web()
        python = sys.executable
        self._begin("worker", python, "manage.py", "qcluster")
        self._begin("controller", python, "manage.py", "run_controller", "--stop-pods")
        self._wait_ready()

    def _begin_web(self) -> None:
        """Start the web processes; each takes connections from the one socket."""
        try:
            listener = socket.create_server(("127.0.0.1", self.port))
        except OSError as error:
            raise Failed(f"Nothing can listen at {self.url}: {error.strerror}") from error
        with listener:
            # Connections inherit it; uvicorn, which takes this for a Unix socket, does not set it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            descriptor = listener.fileno()
            command = (
                sys.executable,
                "-m",
                "uvicorn",
                "config.asgi:application",
                "--fd",
                str(descriptor),
                "--no-access-log",
                "--timeout-graceful-shutdown",
                "5",
                # Longer than agents keep theirs (75 s), or one is closed just as it is used again.
                "--timeout-keep-alive",
                "90",
            )
            for _ in range(_WEB_PROCESSES):
                self._begin("web", *command, descriptors=[descriptor])

    def _begin(self, name: str, *command: str, descriptors: Sequence[int] = ()) -> None:
        child = processes.start(
            name,
            command,
            cwd=BASE_DIR,
            environment=self.environment,
            log=self._log(name),
            descriptors=descriptors,
        )
        self._children.append(child)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            self.stop.wait(0.1)
        raise Failed(
            f"The server did not become ready within {_READY_SECONDS} s.\n"
            + processes.log_end(self._log("web"))
        )

    def _stop(self) -> None:
        self.say("Stopping")
        web = [child for child in self._children if child.name == "web"]
        for child in reversed(self._children):
            if child not in web:
                child.stop(_STOP_SECONDS)
        # The controller told the agents to end; they still need the server to report.
        processes.end_descendants(_DRAIN_SECONDS, self.impatient, self.cut, say=self.say, spare=web)
        for child in web:
            child.stop(_STOP_SECONDS)
        processes.end_descendants(1, self.impatient, self.cut, say=self.say)
        self._children.clear()
        # Not a look at DATABASE_URL, which a benchmark has set for itself since.
        if self._own_postgres:
            try:
                embedded.stop(self.directory / "postgres")
            except embedded.EmbeddedError as error:
                self.say(str(error))

    # --- surroundings --------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    @contextmanager
    def _sole(self) -> Iterator[None]:
        """Hold the directory's lock: two platforms on one database would fight for the pods."""
        with (self.directory / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise Failed(f"It already runs here: {lock.read().strip()}") from None
            _rewrite(lock, self.url)
            yield

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask for an end, a second one for a quick end, a third for now."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.impatient.is_set():
                self.cut.set()
            if self.stop.is_set():
                self.impatient.set()
            self.stop.set()

        before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _rewrite(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(f"{text}\n")
    file.flush()


def surroundings(directory: Path, url: str) -> dict[str, str]:
    """Return the environment of the platform's processes, but for its database."""
    return {
        **os.environ,
        **_secrets(directory / "secrets.json"),
        "DJANGO_SETTINGS_MODULE": "config.settings.server",
        "DEBUG": "false",
        "HTTPS": "false",  # loopback only
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "SLIPWAY_URL": url,
        "SLIPWAY_WORK_DIRECTORY": str(directory / "work"),
        "SLIPWAY_AGENTS_DIRECTORY": str(directory / "agents"),
        "STATIC_ROOT": str(directory / "static"),
        "PYTHONUNBUFFERED": "1",
    }


def _secrets(path: Path) -> dict[str, str]:
    """Return this installation's secrets, made on the first run and readable only by its owner."""
    if not path.exists():
        made = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "SLIPWAY_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "SLIPWAY_ADMIN_PASSWORD": secrets.token_urlsafe(12),
        }
        half = path.with_suffix(".new")
        half.touch(mode=0o600)
        half.write_text(json.dumps(made))
        half.rename(path)
    loaded: dict[str, str] = json.loads(path.read_text())
    return loaded


def free_port(preferred: int = 0) -> int:
    """Return a free TCP port of the loopback address; ``preferred`` if that is given and free."""
    others = random.sample(_PORTS, 100)
    for port in [preferred, *others] if preferred else others:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed("No port is free on the loopback address.")


def fresh_directory(path: Path) -> Path:
    """Return ``path`` emptied, with the PostgreSQL of an earlier run stopped and deleted.

    Raises:
        Failed: a platform runs there.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (path / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"Another run uses {path}; wait for it or stop it.") from None
        embedded.stop(path / "postgres")
        shutil.rmtree(embedded.data_directory(path / "postgres"), ignore_errors=True)
        for entry in path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
    return path


def main(arguments: Sequence[str]) -> int:
    """Run the platform until Ctrl+C, or a command on it; returns the exit code."""
    directory = BASE_DIR / "var" / "server"
    if arguments:
        return _manage(directory, arguments)
    platform = Platform(directory, free_port(8000), say=_say)
    try:
        with platform.running():
            print(_welcome(platform), flush=True)
            while not platform.stop.wait(1.0):
                platform.check()
        print("Stopped.")
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _manage(directory: Path, arguments: Sequence[str]) -> int:
    """Become a management command on the platform that runs in ``directory``."""
    try:
        url = (directory / "lock").read_text().strip()
        environment = surroundings(directory, url)
        if "DATABASE_URL" not in environment:
            environment["DATABASE_URL"] = embedded.url(directory / "postgres")
    except (OSError, embedded.EmbeddedError):
        print("Nothing runs here: start scripts/server in another terminal.", file=sys.stderr)
        return 1
    manage = str(BASE_DIR / "manage.py")
    os.execve(sys.executable, [sys.executable, manage, *arguments], environment)


def _say(text: str) -> None:
    print(f"  {text} …", flush=True)


def _welcome(platform: Platform) -> str:
    return f"""
Slipway runs at {platform.url}

  User      admin
  Password  {platform.password}
  API token {platform.token}   (for one day)

Three things to try:
  1. Make a workspace "hello" at {platform.url}/admin/
  2. Push a configuration into it, and confirm its plan in the admin:
     scripts/manage push_configuration hello examples/hello --plan
  3. Read the API at {platform.url}/api/v1/docs/ and ask it:
     curl -H "Authorization: Token {platform.token}" {platform.url}/api/v1/tasks/

Ctrl+C stops everything. Logs are in {platform.directory / "logs"}.
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
