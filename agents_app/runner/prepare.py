"""Steps that a plan and the normal path of an apply share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents_app.runner.environment import PrivateHome
from agents_app.runner.errors import StepFailed, TransferDamaged
from agents_app.runner.manifest import Manifest, sha256_file, take_manifest
from agents_app.runner.providers import read_lock
from agents_app.runner.run import Run, expect_success, follow
from tasks_app.archives import ArchiveLimits, extract
from tasks_app.exceptions import ArchiveRefused

OVERRIDE = "slipway_override.tf.json"
#: The server checked the archive against its own limits; these only bound a damaged one.
_LIMITS = ArchiveLimits(unpacked_bytes=8 * 1024**3, files=1_000_000, ratio=2000)


def unpack_configuration(run: Run) -> None:
    """Make the directory anew and unpack the configuration, with Slipway's backend.

    Raises:
        StepFailed: the configuration or its working directory is not usable.
        TransferDamaged: it did not arrive as it was sent.
    """
    run.directory.create_anew()
    archive = run.directory.path / "configuration.tar.gz"
    run.source.configuration(archive)
    if sha256_file(archive) != run.job.configuration_digest:
        raise TransferDamaged("The configuration was damaged on its way to the agent.")
    try:
        extract(archive, run.directory.config, _LIMITS)
    except ArchiveRefused as refusal:
        raise StepFailed(refusal.detail) from None
    archive.unlink()
    if not run.working_directory.is_dir():
        raise StepFailed(
            f"The configuration has no folder “{run.job.working_directory}”; correct the "
            "workspace's working directory."
        )
    write_override(run)


def write_override(run: Run) -> None:
    """Send the state to Slipway whatever backend the configuration names.

    The address and the credentials come from the environment alone.
    """
    if run.job.backend:
        override: dict[str, Any] = {"terraform": {"backend": {"http": {}}}}
        (run.working_directory / OVERRIDE).write_text(json.dumps(override) + "\n")


def manifest_of(run: Run, known: Manifest | None = None) -> Manifest:
    """Return the manifest of the run's configuration folder as it is now."""
    return take_manifest(
        run.directory.config,
        terraform_version=run.engine.version,
        working_directory=run.job.working_directory,
        known=known,
    )


def init(
    run: Run, home: PrivateHome, *, lock_read_only: bool, seconds: float | None = None
) -> None:
    """Run `terraform init`, from the agent's mirror alone if it holds everything locked.

    Args:
        lock_read_only: the lock file is part of a reviewed plan and stays as it is.
        seconds: how long each of its at most two attempts may take; None: as long as it does.

    Raises:
        StepFailed: with Terraform's diagnostics, or the state would go astray, or it took longer.
    """
    arguments = ["init", "-input=false", "-no-color"]
    if lock_read_only:
        arguments.append("-lockfile=readonly")
    else:
        run.mirror.complete_lock(run.lock_file)
    locked = read_lock(run.lock_file.read_text()) if run.lock_file.exists() else []
    here = locked and run.mirror.holds(locked)
    if not (here and _init_from_mirror(run, home, arguments, seconds)):
        home.cli_config.write_text(run.mirror.cli_config(own_only=False))
        finished = follow(run, home, arguments, what="init", seconds=seconds)
        expect_success(finished, "init")
        run.mirror.publish(run.working_directory / ".terraform", run.lock_file)
    check_backend(run)


def _init_from_mirror(
    run: Run, home: PrivateHome, arguments: list[str], seconds: float | None
) -> bool:
    """Try without looking upstream; the configuration may want more than its lock file holds."""
    home.cli_config.write_text(run.mirror.cli_config(own_only=True))
    finished = follow(run, home, arguments, what="init", show=False, seconds=seconds)
    if finished.exit_code != 0:
        return False
    run.log.write(finished.stdout.read_text(errors="replace"))
    run.log.flush()
    return True


def link_providers(run: Run) -> bool:
    """Install what the reviewed lock file names without init: links to the agent's mirror.

    Measured: under 1 ms, where init hashes every package again (terraform-physics §4). Only
    with Slipway's state: what an init does for other backends was not measured to be dispensable.

    Returns:
        False if the mirror lacks a package, or has another build of it: init may know better.
    """
    if run.job.backend is None:
        return False
    locked = read_lock(run.lock_file.read_text()) if run.lock_file.exists() else []
    return run.mirror.link(locked, run.working_directory / ".terraform" / "providers")


def check_backend(run: Run) -> None:
    """Make sure that the state goes where it belongs.

    Raises:
        StepFailed: an override file replaced Slipway's backend, or a backend of its own would
            keep the state inside the work directory, which is deleted after the apply.
    """
    notes = run.working_directory / ".terraform" / "terraform.tfstate"
    try:
        backend = json.loads(notes.read_bytes()).get("backend") or {}
    except FileNotFoundError:
        backend = {}
    config = backend.get("config") or {}
    if run.job.backend:
        addresses = {value for name, value in config.items() if name.endswith("address")}
        if backend.get("type") != "http" or addresses - {None, run.job.backend.address}:
            raise StepFailed(
                "The configuration has an override file that sets a backend; remove it, or let "
                "the workspace keep the configuration's own backend."
            )
    elif backend.get("type", "local") == "local" and not _outside(run, config.get("path")):
        raise StepFailed(
            "The configuration keeps its state in a local file, which would be lost with the "
            "work directory: name a remote backend, or let Slipway keep the state."
        )


def _outside(run: Run, path: str | None) -> bool:
    return bool(
        path
        and Path(path).is_absolute()
        and not Path(path).resolve().is_relative_to(run.directory.base.resolve())
    )
