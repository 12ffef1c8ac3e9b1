"""A whole platform of real processes on the test's own database.

A uvicorn server, agents, and if wanted the controller and the worker; between them and the
server stands a proxy that breaks what a test asks it to break. The test process itself sets up
through services and looks through the ORM; what people do goes through the REST API.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
from django.conf import settings
from django.db import connection
from knox.models import AuthToken

from agents_app.runner.engines import embedded_command
from config.launch import free_port
from pods_app.models import ManagedPod, Pool
from pods_app.registration import create_pool_token
from pods_app.states import PodPhase
from tasks_app.actors import Actor
from tests.support import fatal_agent, skewed_agent
from tests.support.factories import make_admin
from tests.support.programs import (
    PATIENCE,
    Program,
    end_processes_below,
    inherited,
    processes_below,
    wait_until,
)
from tests.support.proxy import FaultProxy
from tests.support.sites import Site

#: Short enough that tests need not wait, long enough for a loaded machine.
_SETTINGS = {"heartbeat_seconds": "0.5", "poll_seconds": "4"}


class Platform:
    """Use it as a context manager; everything it started is gone afterwards.

    Args:
        directory: for logs, work directories and the agents' own files.
        overrides: Slipway's settings by name, as text.
    """

    def __init__(self, directory: Path, overrides: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True)
        self.work = directory / "work"
        self.port = free_port()
        self.proxy = FaultProxy(self.port)
        self.programs: list[Program] = []
        self.admin = make_admin()
        self.token = AuthToken.objects.create(user=self.admin)[1]
        self._environment = self._make_environment({**_SETTINGS, **(overrides or {})})
        self.server = self._add(
            "server",
            [
                *(sys.executable, "-m", "uvicorn", "config.asgi:application"),
                *("--host", "127.0.0.1", "--port", str(self.port)),
                *("--no-access-log", "--timeout-graceful-shutdown", "2"),
            ],
            self._environment,
        )

    def __enter__(self) -> Platform:
        self.proxy.__enter__()
        try:
            self.start_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for program in reversed(self.programs):
            program.kill()
        end_processes_below(self.directory)
        self.proxy.__exit__()

    # --- the server -----------------------------------------------------------------------

    def start_server(self) -> None:
        """Start the server and wait until it is ready."""
        self.server.start()
        wait_until(self._ready, "the server is ready")

    def restart_server(self) -> None:
        """Kill the server as a crash does, and start it again."""
        self.server.kill()
        self.start_server()

    def _ready(self) -> bool:
        assert self.server.alive, f"the server ended:\n{self.server.log_end()}"
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def start_controller(self) -> Program:
        """Start a controller."""
        return self._started("controller", [sys.executable, "manage.py", "run_controller"])

    def start_worker(self) -> Program:
        """Start django-q2's cluster."""
        return self._started("worker", [sys.executable, "manage.py", "qcluster"])

    def manage(self, *arguments: str) -> Program:
        """Run a management command of the server to its end."""
        program = self._started(arguments[0], [sys.executable, "manage.py", *arguments])
        program.wait()
        return program

    # --- agents ---------------------------------------------------------------------------

    def start_agent(
        self,
        name: str = "agent",
        *,
        pool: Pool | None = None,
        wait: bool = True,
        fatal: int | None = None,
        stop: str = "",
        **more: str,
    ) -> Agent:
        """Start a static agent.

        Args:
            pool: instead of the default pool.
            wait: until work can be placed on it.
            fatal: the number of the moment at which it dies (`fatal_agent`); 0: it only counts.
            stop: the name of a moment at which it stops, until it gets SIGCONT.
            more: environment variables; with `skewed_agent.CLOCK` its clock is wrong.
        """
        if stop:
            fatal, more = 0, {**more, fatal_agent.STOP: stop}
        agent = Agent(self, name, pool or default_pool(), fatal, more)
        self.programs.append(agent.program)
        agent.program.start()
        online = ManagedPod.objects.filter(pod_uid=agent.pod_uid, phase=PodPhase.ONLINE)
        if wait:
            wait_until(online.exists, f"{name} is online")
        return agent

    def give_another_disk_to_new_agents(self) -> None:
        """As on another machine: agents on one machine would wait for each other's directories."""
        self.server.environment["SLIPWAY_WORK_DIRECTORY"] = str(self.work / "elsewhere")
        self.restart_server()

    def terraforms(self, directory: Path | None = None) -> list[psutil.Process]:
        """Return the Terraform processes that run now, all or those of one work directory."""
        found = []
        for process in processes_below(directory or self.work):
            try:
                if process.name() in {"terraform", "tofu"} or _is_embedded(process):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    # --- the REST API ---------------------------------------------------------------------

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request to the REST API as the administrator, not through the proxy."""
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            headers={"Authorization": f"Token {self.token}", **arguments.pop("headers", {})},
            timeout=PATIENCE,
            **arguments,
        )

    def site(self, files: Mapping[str, str | bytes], **fields: Any) -> Site:
        """Make a workspace with a configuration."""
        return Site(self, files, **fields)

    # --- the rest -------------------------------------------------------------------------

    def report(self) -> Iterator[tuple[str, str]]:
        """Yield the end of every log, for the report of a failed test."""
        for program in self.programs:
            yield f"{program.name} ({program.log})", program.log_end()

    def _started(self, name: str, command: list[str]) -> Program:
        program = self._add(name, command, self._environment)
        program.start()
        return program

    def _add(self, name: str, command: list[str], environment: Mapping[str, str]) -> Program:
        name = f"{name}-{len(self.programs)}" if self.programs else name
        log = self.directory / "logs" / f"{name}.log"
        program = Program(name, command, environment, log)
        self.programs.append(program)
        return program

    def _make_environment(self, overrides: Mapping[str, str]) -> dict[str, str]:
        return {
            **inherited(),
            "DJANGO_SETTINGS_MODULE": "config.settings.server",
            "DATABASE_URL": database_url(),
            "DATABASE_POOL_SIZE": "16",
            "SECRET_KEY": settings.SECRET_KEY,
            "SLIPWAY_ENCRYPTION_KEYS": os.environ["SLIPWAY_ENCRYPTION_KEYS"],
            "SLIPWAY_URL": self.proxy.url,
            "SLIPWAY_WORK_DIRECTORY": str(self.work),
            "SLIPWAY_AGENTS_DIRECTORY": str(self.directory / "agents"),
            "STATIC_ROOT": str(self.directory / "static"),
            "HTTPS": "false",
            "LOG_LEVEL": "INFO",
            **{f"SLIPWAY_{name.upper()}": value for name, value in overrides.items()},
        }


#: What the fixture ``start_platform`` gives: a function of Slipway's settings by name.
StartPlatform = Callable[..., Platform]


class Agent:
    """An agent process with a state directory that outlives it, as a disk does."""

    def __init__(
        self,
        platform: Platform,
        name: str,
        pool: Pool,
        fatal: int | None,
        more: Mapping[str, str],
    ) -> None:
        self.name, self.pod_uid = name, f"uid-{name}"
        self.directory = platform.directory / "agents" / name
        self.state = self.directory / "state"
        self.directory.mkdir(parents=True)
        _, token = create_pool_token(actor=Actor.system("test"), pool=pool, name=name)
        token_file = self.directory / "pool-token"
        token_file.write_text(token)
        environment = {
            **inherited(),
            "DJANGO_SETTINGS_MODULE": "config.settings.agent",
            "SLIPWAY_URL": platform.proxy.url,
            "SLIPWAY_POD_NAME": name,
            "SLIPWAY_POD_UID": self.pod_uid,
            "SLIPWAY_POOL_TOKEN_FILE": str(token_file),
            "SLIPWAY_AGENT_DIRECTORY": str(self.state),
            "LOG_LEVEL": "DEBUG",
            **more,
        }
        command = [sys.executable, "manage.py", "run_agent"]
        if fatal is not None:
            command = [sys.executable, "-m", "tests.support.fatal_agent"]
            environment |= {fatal_agent.MOMENTS: str(self._moments), fatal_agent.FATAL: str(fatal)}
        if skewed_agent.CLOCK in more:
            command = [sys.executable, "-m", "tests.support.skewed_agent"]
        self.program = Program(name, command, environment, self.directory / "agent.log")

    @property
    def _moments(self) -> Path:
        return self.directory / "moments"

    @property
    def moments(self) -> list[str]:
        """The names of the moments so far, of an agent that counts them."""
        return self._moments.read_text().splitlines() if self._moments.exists() else []

    def has_no_leases(self) -> bool:
        """Whether nothing is left of its leases on its disk."""
        return not any((self.state / "leases").iterdir())

    def restart(self) -> None:
        """Kill it and start it again on the same disk; it does not die by itself again."""
        self.program.kill()
        self.program.environment.pop(fatal_agent.FATAL, None)
        self.program.start()


def _is_embedded(process: psutil.Process) -> bool:
    program = embedded_command()[-1]
    return process.name().startswith("python") and program in process.cmdline()


def default_pool() -> Pool:
    """Return the default pool, made if need be; not of local processes."""
    pool, _ = Pool.objects.get_or_create(is_default=True, defaults={"name": "default"})
    return pool


def database_url(name: str | None = None) -> str:
    """Return the address of the test's own database, or of another one beside it."""
    own = connection.settings_dict
    login = quote(own["USER"]) + (f":{quote(own['PASSWORD'])}" if own["PASSWORD"] else "")
    host, port = own["HOST"], f":{own['PORT']}" if own["PORT"] else ""
    options = {key: value for key, value in own["OPTIONS"].items() if key != "pool"}
    return f"postgres://{login}@{host}{port}/{name or own['NAME']}?{urlencode(options)}"
