"""The end of a phase: what the agent reports becomes the task's result."""

from __future__ import annotations

import re
from uuid import UUID

from django.db import transaction

from agents_app.exceptions import ArtifactsMissing, LogIncomplete
from agents_app.schema import (
    Artifact,
    Directive,
    EndedRequest,
    FinishReply,
    FinishRequest,
    Outcome,
    Phase,
)
from agents_app.services.artifacts import blobs_of_lease
from agents_app.services.progress import store_steps
from agents_app.tokens import Caller
from pods_app.leases import find_lease
from pods_app.models import Lease
from pods_app.outcomes import Report, end_reported, finish_apply, finish_plan
from pods_app.registration import lets_go
from pods_app.states import LeasePhase, LeaseState
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.models import LogStream
from tasks_app.services.logs import complete_log
from tasks_app.services.plans import PlanFacts
from tasks_app.services.state_recovery import store_recovered_state

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Without these a person could not read the plan they confirm.
_READABLE = (Artifact.PLAN_JSON, Artifact.PLAN_TEXT)


def finish(caller: Caller, lease_id: UUID, epoch: int, message: FinishRequest) -> FinishReply:
    """Record the end of a phase. Repeating it is harmless.

    The log and the artifacts come first: a phase whose log has a gap, or whose plan is not
    here, is not over. A state that an apply could not upload becomes current with its end.

    Raises:
        NotFound, StaleLease: the lease is not this agent's, or was taken away.
        LogIncomplete: bytes of the log are missing; ``next_offset`` says from where.
        ArtifactsMissing: contents of the plan are missing; ``missing`` names them.
        InvalidInput: a field contradicts the outcome.
        Conflict: the lease has not come to that phase.
    """
    if message.phase == Phase.WARMUP:
        raise InvalidInput("A warm-up has no end; report what is ready instead.", field="phase")
    lease = find_lease(lease_id, epoch, caller.pod)
    repeated = _is_over(lease, message.phase)
    if repeated:
        report = Report(outcome=message.outcome)
    else:
        _check_log(lease, message)
        report = _report(lease, message)
    end_phase = finish_plan if message.phase == Phase.PLAN else finish_apply
    with transaction.atomic():
        directive = end_phase(lease_id=lease_id, epoch=epoch, pod=caller.pod, report=report)
        if message.state_recovered and not repeated and lease.task.has_own_state:
            _take_in_recovered_state(caller, lease)
        if not repeated:
            complete_log(task=lease.task, phase=message.phase, truncated=message.log_truncated)
            store_steps(lease, message.phase, message.steps)
    return FinishReply(directive=Directive(directive))


def _take_in_recovered_state(caller: Caller, lease: Lease) -> None:
    blob = blobs_of_lease(lease.pk).get(Artifact.RECOVERED_STATE)
    if blob is None:
        raise ArtifactsMissing(
            "Store the recovered state with the lease, then report the end again.",
            missing=[Artifact.RECOVERED_STATE.value],
        )
    store_recovered_state(
        task=lease.task, content=blobs.read_all(blob), actor=Actor.agent(caller.pod.agent_id)
    )


def _is_over(lease: Lease, phase: Phase) -> bool:
    """Return whether the phase's end was recorded before.

    Raises:
        Conflict: the phase has not begun.
    """
    if lease.state == LeaseState.ENDED:
        return True
    if phase == Phase.APPLY and lease.phase != LeasePhase.APPLY:
        raise Conflict(f"The lease is in its phase “{lease.phase}”: there is no apply to end.")
    return phase == Phase.PLAN and lease.phase != LeasePhase.PLAN


def _check_log(lease: Lease, message: FinishRequest) -> None:
    stored = (
        LogStream.objects.filter(task=lease.task_id, phase=message.phase, lease_id=lease.pk)
        .values_list("size", "truncated")
        .first()
    )
    size, truncated = stored or (0, False)
    if size < message.log_bytes and not truncated:
        raise LogIncomplete(
            f"{message.log_bytes - size} bytes of the log are missing; send them from {size} on.",
            next_offset=size,
        )


def _report(lease: Lease, message: FinishRequest) -> Report:
    return Report(
        outcome=message.outcome,
        error=message.error,
        diagnostics=[diagnostic.model_dump() for diagnostic in message.diagnostics],
        plan=_plan_facts(lease, message),
        path=message.path or "",
        path_reason=message.path_reason,
        state_recovered=message.state_recovered,
    )


def _plan_facts(lease: Lease, message: FinishRequest) -> PlanFacts | None:
    if message.phase != Phase.PLAN or message.outcome not in {Outcome.PLANNED, Outcome.NO_CHANGES}:
        return None
    result = message.plan
    if result is None:
        raise InvalidInput(f"An outcome “{message.outcome}” needs the plan’s facts.", field="plan")
    for name in ("plan_hash", "manifest_digest"):
        if not _SHA256.fullmatch(getattr(result, name)):
            raise InvalidInput("It must be a SHA-256 in lower-case hex.", field=f"plan.{name}")
    stored = blobs_of_lease(lease.pk)
    needed = [*_READABLE] if message.outcome == Outcome.PLANNED else []
    if result.bundle_stored:
        needed.append(Artifact.PLAN_BUNDLE)
    if missing := sorted(kind.value for kind in needed if kind not in stored):
        raise ArtifactsMissing(
            f"Store {', '.join(missing)} with the lease, then report the end again.",
            missing=missing,
        )
    return PlanFacts(
        plan_hash=result.plan_hash,
        manifest_digest=result.manifest_digest,
        terraform_version=result.terraform_version,
        to_add=result.to_add,
        to_change=result.to_change,
        to_destroy=result.to_destroy,
        to_import=result.to_import,
        output_changes=result.output_changes,
        state_lineage=result.state_lineage,
        state_serial=result.state_serial,
        providers=result.providers,
        bundle_bytes=result.bundle_bytes,
        bundle=stored.get(Artifact.PLAN_BUNDLE) if result.bundle_stored else None,
        json=stored.get(Artifact.PLAN_JSON),
        text=stored.get(Artifact.PLAN_TEXT),
    )


def ended(caller: Caller, lease_id: UUID, epoch: int, message: EndedRequest) -> None:
    """The agent let a lease go: the slot is free. Repeating it is harmless.

    Raises:
        NotFound, StaleLease: as `leases.find_lease`.
    """
    if find_lease(lease_id, epoch, caller.pod).state == LeaseState.LIVE:
        lets_go(caller.pod)
    end_reported(lease_id=lease_id, epoch=epoch, pod=caller.pod, detail=message.detail)
