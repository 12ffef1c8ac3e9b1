"""What all leases of an agent share on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from agents_app.agent.hold_memory import HoldMemory
from agents_app.agent.options import AgentError, Options
from agents_app.agent.owners import Owners
from agents_app.runner.engines import LocalEngine
from agents_app.runner.environment import remove_home
from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.providers import ProviderMirror
from agents_app.runner.workdir import WorkDirectory, empty_trash
from agents_app.schema import RegisterReply

log = logging.getLogger("agent.machine")


@dataclass(frozen=True)
class Machine:
    """The base of all work directories, with the engines and providers for them. Sizes in bytes.

    Agents on one machine share the base and what lies below it.
    """

    base: Path
    engines: list[LocalEngine]
    mirror: ProviderMirror
    owners: Owners
    bundle_bytes_max: int
    log_bytes_max: int
    hold_memory: HoldMemory

    def directory(self, workspace_id: UUID, task_id: UUID) -> WorkDirectory:
        """Return the work directory of a task."""
        return WorkDirectory(self.base, workspace_id, task_id)

    def disk(self) -> tuple[int, int]:
        """Return the total and the free bytes of the base's disk."""
        usage = shutil.disk_usage(self.base)
        return usage.total, usage.free


def prepare(
    options: Options, engines: list[LocalEngine], reply: RegisterReply, pod_uid: str
) -> Machine:
    """Make the base that the server names usable.

    Raises:
        AgentError: it cannot be used.
    """
    base = Path(reply.base_path)
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        mirror = ProviderMirror(base / "providers", options.provider_mirror)
        owners = Owners(base, pod_uid)
    except OSError as error:
        raise AgentError(
            f"The work directory {base}, which the server names, cannot be used: {error.strerror}. "
            "Make it for this user, or set SLIPWAY_WORK_DIRECTORY on the server."
        ) from None
    return Machine(
        base=base,
        engines=engines,
        mirror=mirror,
        owners=owners,
        bundle_bytes_max=reply.bundle_bytes_max,
        log_bytes_max=reply.log_bytes_max,
        hold_memory=HoldMemory(reply.hold_bytes_max),
    )


def clear(machine: Machine, mine: Iterable[UUID]) -> None:
    """Delete what killed agents left: half-deleted directories, homes of runs that nobody runs.

    Args:
        mine: tasks of this agent's leases, those of a former process taken up. Theirs, and those
            of another agent that is just restarting, are spared, their locks free or not: in a
            HOME it is written what to keep out of the log.
    """
    base, spared = machine.base, {*mine, *machine.owners.elsewhere()}
    try:
        empty_trash(base)
    except OSError as error:
        log.warning("the trash of %s cannot be emptied: %s", base, error)
    homes = base / "homes"
    for home in list(homes.iterdir()) if homes.is_dir() else []:
        try:
            owner = WorkDirectory(base, UUID(int=0), UUID(home.name))
            if owner.task_id in spared:
                continue
            owner.acquire()
        except (ValueError, DirectoryInUse, OSError):
            continue
        remove_home(home)
        owner.release()
