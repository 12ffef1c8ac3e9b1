"""What the forecast of an apply is made from, read with a few queries and no lock."""

from __future__ import annotations

import copy

from django.utils import timezone

from pods_app import health, waiting
from pods_app.dispatch import candidates, why_no_room
from pods_app.forecast.paths import Facts, Forecast, Stay, forecast
from pods_app.freeze.gate import Start, judge
from pods_app.freeze.stored import state_of
from pods_app.models import Installation, Lease, ManagedPod, Pool, WorkDirectory
from pods_app.states import DirectoryState, LeaseState, PodPhase
from tasks_app.models import Task
from tasks_app.selectors import blocked_by
from tasks_app.services.state import open_lock
from tasks_app.states import Status

_GONE = {PodPhase.LOST: "is lost", PodPhase.GONE: "is gone", PodPhase.STARTING: "is starting"}


def forecast_of(task: Task) -> Forecast | None:
    """Return how a plan's apply would start if it were confirmed now; None if none waits."""
    return forecast(_facts(task)) if task.status == Status.APPLY_PENDING else None


def _facts(task: Task) -> Facts:
    confirmed = copy.copy(task)  # dispatch judges what it would place then
    confirmed.status = Status.CONFIRMED
    pool = task.placement.pool
    stays = _stays(task)
    place, no_place = "", ""
    if not stays or not stays[-1].live:
        found = candidates(confirmed, pool).first()
        place = found.pod_name if found else ""
        no_place = "" if found else why_no_room(confirmed, pool).sentence
    until = task.keep_warm_until
    return Facts(
        stays=stays,
        directories=_directories(task),
        place=place,
        no_place=no_place,
        warmup=task.warmup_status,
        warmup_error=task.warmup_error,
        again=task.warmup_retry_at is not None,
        kept_warm=until is not None and until > timezone.now(),
        bundle_stored=task.plan.bundle_id is not None,
        waits=_waits(confirmed, pool) or _former_agent(stays),
    )


def _stays(task: Task) -> tuple[Stay, ...]:
    leases = list(
        Lease.objects.filter(task=task)
        .select_related("slot__pod")
        .annotate(silence=health.age("slot__pod__"))
        .order_by("epoch")
    )
    planned = [lease for lease in leases if task.planned_at and lease.created_at <= task.planned_at]
    return tuple(_stay(lease, planned=lease in planned[-1:]) for lease in leases)


def _stay(lease: Lease, *, planned: bool) -> Stay:
    pod: ManagedPod = lease.slot.pod
    silence = lease.silence  # type: ignore[attr-defined]
    live = lease.state == LeaseState.LIVE and pod.phase == PodPhase.ONLINE
    return Stay(
        agent=pod.pod_name,
        phase=lease.phase,
        live=live,
        ending=not live and lease.state != LeaseState.ENDED,
        held=lease.held,
        hold_reason=lease.hold_reason,
        restored=lease.restored,
        doubt=health.judge(pod, silence) == health.Health.UNKNOWN,
        planned=planned,
        gone=_GONE.get(PodPhase(pod.phase), ""),
        end_reason=lease.end_reason,
    )


def _directories(task: Task) -> dict[str, str]:
    rows = WorkDirectory.objects.filter(task=task, state=DirectoryState.KEPT)
    return {row.pod.pod_name: _no_work(row.pod) for row in rows.select_related("pod")}


def _no_work(pod: ManagedPod) -> str:
    if pod.phase in _GONE:
        return _GONE[PodPhase(pod.phase)]
    return "takes no new work" if pod.draining or pod.ending else ""


def _waits(confirmed: Task, pool: Pool) -> str:
    """Return what keeps a confirmed apply from starting, in the order of `dispatch`."""
    if reason := blocked_by(confirmed):
        return reason
    if closed := judge(state_of(pool.pk), pool.frozen, Start.APPLY):
        return waiting.frozen(pool, closed).sentence
    doubt = Installation.objects.exclude(doubt="").values_list("doubt", flat=True).first()
    if doubt:
        return waiting.doubt(doubt).sentence
    if confirmed.has_own_state and open_lock(confirmed.workspace):
        return "Waits until whoever holds the lock of the state releases it"
    return ""


def _former_agent(stays: tuple[Stay, ...]) -> str:
    """Return what dispatch waits for last, because nobody else may start before."""
    return waiting.FORMER_AGENT.sentence if stays and stays[-1].ending else ""
