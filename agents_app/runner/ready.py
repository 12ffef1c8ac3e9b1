"""Makes a directory ready for an apply: the kept one if it is unchanged, else a restored one."""

from __future__ import annotations

import stat
from pathlib import Path

from agents_app.runner import bundle
from agents_app.runner.environment import PrivateHome
from agents_app.runner.errors import ManifestMismatch, PlanHashMismatch, PlanUnusable
from agents_app.runner.hold import remove_gates, was_applied
from agents_app.runner.manifest import (
    Manifest,
    differences,
    from_json,
    paths,
    to_json,
    verify_plan_hash,
)
from agents_app.runner.plan import MANIFEST_FILE
from agents_app.runner.prepare import init, link_providers, manifest_of, unpack_configuration
from agents_app.runner.run import Run
from agents_app.schema import ApplyPath, Artifact, PlanReference

#: In a directory that was restored before its plan was confirmed: why there was no kept one.
_WARMED_FILE = "warmed"
#: A warm-up whose init takes longer, in seconds, failed and is tried again: gigabytes of providers
#: over a slow line take minutes, and one that hangs would keep its slot. Nobody waits for it.
INIT_SECONDS = 600.0


def make_ready(run: Run, home: PrivateHome, *, ahead: bool = False) -> tuple[ApplyPath, str]:
    """Leave a directory from which exactly the reviewed plan can be applied.

    Args:
        ahead: nobody has confirmed yet.

    Returns:
        The path taken and why, in words.

    Raises:
        PlanUnusable: neither the kept directory nor the server's copy is the reviewed plan.
        StepFailed: providers could not be installed.
    """
    reference = run.job.plan
    assert reference is not None
    engine, made_by = run.engine, (run.job.engine, reference.terraform_version)
    if (engine.engine, engine.version) != made_by:
        raise PlanUnusable(
            f"The plan was made by {' '.join(made_by)} and cannot be applied by {engine.engine} "
            f"{engine.version}: plan again."
        )
    if was_applied(run.directory.run):
        # The server's permit prevents this; two applies of one plan would create all twice (F1).
        raise PlanUnusable("This plan was applied from its directory before, whatever came of it.")
    with run.step("verify"):
        remove_gates(run.working_directory)
        obstacle = verify_kept(run, reference)
    warmed = run.directory.path / _WARMED_FILE
    if not obstacle:
        proven = "Its plan and every file are as they were reviewed."
        if not warmed.exists():
            return ApplyPath.KEPT, proven
        return ApplyPath.WARMED, f"Not from the kept directory: {warmed.read_text()} {proven}"
    quarantined = run.directory.quarantine()
    if quarantined is not None:
        obstacle += " The directory was set aside."
    if not reference.bundle_stored:
        raise PlanUnusable(
            f"{obstacle} The plan was too large to be stored, so it could be applied only from "
            "there: plan again."
        )
    restore(run, home, reference, init_seconds=INIT_SECONDS if ahead else None)
    if ahead:
        warmed.write_text(obstacle)
        return ApplyPath.WARMED, obstacle
    return ApplyPath.NORMAL, obstacle


def verify_kept(run: Run, reference: PlanReference) -> str:
    """Return why the kept directory cannot be used, "" if it can.

    The plan is always hashed; of the other files, those whose stamps differ from the manifest
    of the planning.
    """
    directory = run.directory
    if not _is_folder(directory.path):
        return "The work directory is not on this agent any more."
    if not _is_folder(directory.config):
        return "The work directory has lost its configuration."
    try:
        verify_plan_hash(directory.plan_file, reference.plan_hash)
        planned = from_json((directory.path / MANIFEST_FILE).read_text())
        actual = manifest_of(run, planned)
    except (PlanHashMismatch, ManifestMismatch) as mismatch:
        return f"The work directory was changed: {mismatch}"
    except (OSError, UnicodeDecodeError) as error:
        name = Path(str(getattr(error, "filename", "") or "a file")).name
        return f"The work directory was changed: {name} cannot be read."
    if actual.digest != reference.manifest_digest:
        return f"The work directory was changed: {_differing(planned, actual, reference)}."
    return ""


def _differing(planned: Manifest, actual: Manifest, reference: PlanReference) -> str:
    if planned.digest != reference.manifest_digest:
        return "its manifest is not that of the reviewed plan"
    return differences(planned, actual) or "its settings are not those of the reviewed plan"


def restore(
    run: Run, home: PrivateHome, reference: PlanReference, *, init_seconds: float | None = None
) -> None:
    """Rebuild the directory from the server's copy and prove that it is the reviewed plan.

    Args:
        init_seconds: how long an init may take; None: as long as it does.

    Raises:
        PlanUnusable: it is not.
        StepFailed: providers could not be installed.
    """
    with run.step("restore"):
        unpack_configuration(run)
        packed = run.directory.path / "bundle.tar.gz"
        run.source.artifact(Artifact.PLAN_BUNDLE, packed)
        planned = from_json(bundle.read_manifest(packed))
        if planned.digest != reference.manifest_digest:
            raise ManifestMismatch("The stored plan bundle is not the reviewed one: plan again.")
        config = run.directory.config
        bundle.restore(
            packed,
            plan_file=run.directory.plan_file,
            config=config,
            files_gone=paths(config) - planned.entries.keys(),
        )
        packed.unlink()
    with run.step("providers"):
        linked = link_providers(run)
    if not linked:
        with run.step("init"):
            init(run, home, lock_read_only=True, seconds=init_seconds)
    with run.step("verify restored"):
        verify_plan_hash(run.directory.plan_file, reference.plan_hash)
        actual = manifest_of(run)
        if actual.digest != reference.manifest_digest:
            raise ManifestMismatch(
                "The directory could not be restored as it was reviewed "
                f"({_differing(planned, actual, reference)}): plan again."
            )
        (run.directory.path / MANIFEST_FILE).write_text(to_json(actual))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
