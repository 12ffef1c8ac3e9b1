"""A plan: unpack, init, plan, show, hash, manifest, bundle; each a named step."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents_app.runner import bundle
from agents_app.runner.environment import PrivateHome, build, private_home
from agents_app.runner.errors import (
    DirectoryInUse,
    PlanCutOff,
    RunCancelled,
    RunnerError,
    StepFailed,
)
from agents_app.runner.manifest import Manifest, from_json, sha256_file, to_json
from agents_app.runner.prepare import init, manifest_of, unpack_configuration
from agents_app.runner.process import TerraformProcess
from agents_app.runner.run import Finished, Run, expect_success, follow, spawn, watch
from agents_app.schema import Artifact, Diagnostic, Outcome, PlanResult

MANIFEST_FILE = "manifest.json"
_UNPACKED_FILE = "unpacked.json"
#: How long to wait for a directory whose plan is made, in seconds.
_IN_USE_SECONDS = 30.0


@dataclass
class PlanOutcome:
    """How a plan ended, and the files the server shall have."""

    outcome: Outcome
    error: str = ""
    exit_code: int | None = None
    result: PlanResult | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    files: dict[Artifact, Path] = field(default_factory=dict)


def run_plan(run: Run) -> PlanOutcome:
    """Make a plan in the run's directory, which the caller has acquired.

    Nothing is applied, and nothing here is repeated: a plan that was cut off is made again
    only by a new lease.
    """
    return _guarded(run, lambda home: _plan(run, home))


def continue_plan(run: Run, running: TerraformProcess) -> PlanOutcome:
    """Bring a plan to its end whose Terraform a former agent process started."""

    def work(home: PrivateHome) -> PlanOutcome:
        planned = _follow_plan(run, running)
        _acquire(run)
        return _seal(run, home, planned)

    return _guarded(run, work, adopt=True)


def _acquire(run: Run) -> None:
    """Take the directory, which a former process's `show` or a passer-by may hold for a moment."""
    try:
        run.directory.acquire(_IN_USE_SECONDS)
    except DirectoryInUse as error:
        raise PlanCutOff(str(error)) from None


def _guarded(
    run: Run, work: Callable[[PrivateHome], PlanOutcome], *, adopt: bool = False
) -> PlanOutcome:
    try:
        with private_home(run.directory.home, run.job, adopt=adopt) as home:
            return work(home)
    except RunCancelled:
        return PlanOutcome(Outcome.CANCELLED, "The plan was cancelled.")
    except PlanCutOff as failure:
        return PlanOutcome(Outcome.INTERRUPTED, str(failure))
    except StepFailed as failure:
        if run.control.interrupted:
            return PlanOutcome(
                Outcome.CANCELLED,
                "The plan was cancelled.",
                failure.exit_code,
                diagnostics=failure.diagnostics,
            )
        return PlanOutcome(
            Outcome.FAILED,
            run.log.redact(str(failure)),
            failure.exit_code,
            diagnostics=failure.diagnostics,
        )
    except (RunnerError, OSError) as failure:
        return PlanOutcome(Outcome.FAILED, run.log.redact(sentence(failure)))
    finally:
        run.log.flush()


def sentence(failure: Exception) -> str:
    """Return a failure in words for people."""
    if isinstance(failure, OSError):
        return f"The agent could not work with its disk: {failure.strerror or failure}."
    return str(failure)


def _plan(run: Run, home: PrivateHome) -> PlanOutcome:
    with run.step("unpack"):
        unpack_configuration(run)
        (run.directory.path / _UNPACKED_FILE).write_text(to_json(manifest_of(run)))
    with run.step("init"):
        init(run, home, lock_read_only=False)
    with run.step("plan"):
        environment = build(run.job, home)
        planned = _follow_plan(run, spawn(run, environment, plan_arguments(run), what="plan"))
    return _seal(run, home, planned)


def _follow_plan(run: Run, running: TerraformProcess) -> Finished:
    planned = watch(run, running, json_stream=True)
    if not run.control.interrupted and (planned.exit_code is None or not planned.ran):
        raise PlanCutOff("the plan was cut off, and its result is not known")
    expect_success(planned, "plan")
    check_plan_file(run.directory.plan_file)
    return planned


def _seal(run: Run, home: PrivateHome, planned: Finished) -> PlanOutcome:
    with run.step("show"):
        document, files = _show(run, home)
    with run.step("seal"):
        unpacked = from_json((run.directory.path / _UNPACKED_FILE).read_text())
        plan_hash = sha256_file(run.directory.plan_file)
        manifest = manifest_of(run, unpacked)
        (run.directory.path / MANIFEST_FILE).write_text(to_json(manifest))
        size = _pack(run, unpacked, manifest)
    if size is not None:
        files[Artifact.PLAN_BUNDLE] = run.directory.path / "bundle.tar.gz"
    result = _result(run, document, plan_hash, manifest, size)
    return PlanOutcome(
        Outcome.PLANNED if _has_changes(document) else Outcome.NO_CHANGES,
        exit_code=0,
        result=result,
        diagnostics=planned.diagnostics,
        files=files,
    )


def plan_arguments(run: Run) -> list[str]:
    """Return the arguments of `terraform plan`.

    Without the state's lock: a plan reads a committed version, and a drift check must never
    cost a confirmed apply its lock.
    """
    job = run.job
    arguments = ["plan", "-input=false", "-no-color", "-json", "-lock=false"]
    arguments += ["-destroy"] if job.destroy else []
    arguments += ["-refresh-only"] if job.refresh_only else []
    arguments += [f"-target={address}" for address in job.targets]
    arguments += [f"-replace={address}" for address in job.replace]
    return [*arguments, f"-out={run.directory.plan_file}"]


def check_plan_file(plan_file: Path) -> None:
    """Read a plan again: on a full disk Terraform succeeds and leaves an empty one (F7).

    Raises:
        StepFailed: it is empty, truncated or damaged.
    """
    try:
        with zipfile.ZipFile(plan_file) as archive:
            if archive.testzip() is None and "tfplan" in archive.namelist():
                return
    except (OSError, zipfile.BadZipFile):
        pass
    raise StepFailed("Terraform left an incomplete plan; is the agent's disk full?")


def _show(run: Run, home: PrivateHome) -> tuple[dict[str, Any], dict[Artifact, Path]]:
    plan = str(run.directory.plan_file)
    shown = follow(run, home, ["show", "-json", plan], what="show -json", show=False)
    expect_success(shown, "show -json")
    json_file = run.directory.path / "plan.json"
    shown.stdout.rename(json_file)
    shown = follow(run, home, ["show", plan], what="show", show=False)
    expect_success(shown, "show")
    text = run.log.redact(shown.stdout.read_text(errors="replace"))
    text_file = run.directory.path / "plan.txt"
    text_file.write_text(text)
    run.log.write("\n" + text)
    run.log.flush()
    document = json.loads(json_file.read_bytes())
    return document, {Artifact.PLAN_JSON: json_file, Artifact.PLAN_TEXT: text_file}


def _pack(run: Run, unpacked: Manifest, planned: Manifest) -> int | None:
    return bundle.pack(
        run.directory.path / "bundle.tar.gz",
        plan_file=run.directory.plan_file,
        config=run.directory.config,
        unpacked=unpacked,
        planned=planned,
        bytes_max=run.bundle_bytes_max,
    )


def _result(
    run: Run, document: dict[str, Any], plan_hash: str, manifest: Manifest, size: int | None
) -> PlanResult:
    actions = [change["change"]["actions"] for change in document.get("resource_changes", [])]
    lineage, serial = state_position(run.directory.plan_file) if run.job.backend else ("", None)
    return PlanResult(
        plan_hash=plan_hash,
        manifest_digest=manifest.digest,
        terraform_version=run.engine.version,
        bundle_stored=size is not None,
        bundle_bytes=size or 0,
        to_add=sum("create" in action for action in actions),
        to_change=sum(action == ["update"] for action in actions),
        to_destroy=sum("delete" in action for action in actions),
        to_import=sum(
            "importing" in change["change"] for change in document.get("resource_changes", [])
        ),
        output_changes=sum(
            change["actions"] != ["no-op"] for change in document.get("output_changes", {}).values()
        ),
        state_lineage=lineage,
        state_serial=serial,
    )


def _has_changes(document: dict[str, Any]) -> bool:
    """Return whether applying would change anything, be it only the state (moved, imported)."""
    if "applyable" in document:
        return bool(document["applyable"])
    resources = document.get("resource_changes", [])
    return any(
        (
            any(set(one["change"]["actions"]) - {"no-op", "read"} for one in resources),
            any("importing" in one["change"] or "previous_address" in one for one in resources),
            any(one["actions"] != ["no-op"] for one in document.get("output_changes", {}).values()),
            document.get("resource_drift"),
        )
    )


def state_position(plan_file: Path) -> tuple[str, int | None]:
    """Return lineage and serial of the state a plan was made on; ("", None) for none.

    A plan is a zip that holds the state it was made on, refreshed, with that state's own
    lineage and serial (`tfstate`); the copy before the refresh (`tfstate-prev`) has neither.
    """
    with zipfile.ZipFile(plan_file) as archive:
        state = json.loads(archive.read("tfstate"))
    if not state.get("lineage"):
        return "", None
    return state["lineage"], state["serial"]
