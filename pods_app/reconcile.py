"""`reconcile_pods(pool)`: the pods a pool has against those it should have, level-triggered.

No row is locked while a process is looked for or started. What must happen once is claimed by a
guarded UPDATE before: a launch by its time, a pod's name by a unique constraint, the end of a
surplus pod by its draining.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from pods_app.autoscaler.decisions import decide
from pods_app.hosting.base import Hosting
from pods_app.hosting.local import LocalHosting
from pods_app.models import ManagedPod, Pool, PoolToken
from pods_app.registration import add_slots, create_pool_token
from pods_app.selectors import with_occupancy
from pods_app.services import begin_return, drain_if_free, end_return, pod_is_gone
from pods_app.states import TOO_MANY, PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.models.base import ClockTimestamp
from tasks_app.transitions import record

RECONCILE = Actor.system("reconcile")
#: An agent that ran for so long was started well; in seconds.
HEALTHY_SECONDS = 60
#: Longest pause before an agent that keeps ending is started again, in seconds.
BACK_OFF_SECONDS_MAX = 60
#: An agent that runs but is not heard for so long may need another token; in seconds.
RENEW_SECONDS = 30
#: A pod of another machine that never came online is given up after so many seconds.
STRANGER_SECONDS = 300
_TOKEN_LIFE = timedelta(hours=1)

_HOSTINGS: dict[str, Hosting] = {PoolKind.LOCAL: LocalHosting()}


@dataclass(frozen=True)
class Change:
    """One difference between what is and what should be."""

    pool: str
    pod: str
    action: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return vars(self).copy()


@dataclass
class _Round:
    """One reconciliation of one pool; ``changes`` is its result."""

    pool: Pool
    hosting: Hosting
    dry_run: bool
    wanted: int
    changes: list[Change] = field(default_factory=list)

    def note(self, name: str, action: str, reason: str) -> bool:
        """Record a difference; returns whether to act upon it."""
        self.changes.append(Change(self.pool.name, name, action, reason))
        return not self.dry_run


def cluster_pools() -> list[Pool]:
    """Return the pools that have, or should have, pods in a Kubernetes cluster."""
    with_pods = ManagedPod.objects.filter(kind=PoolKind.KUBERNETES).exclude(phase=PodPhase.GONE)
    return list(
        Pool.objects.filter(Q(kind=PoolKind.KUBERNETES) | Q(pk__in=with_pods.values("pool_id")))
    )


def reconcile_pods(pool: Pool, *, dry_run: bool = False) -> list[Change]:
    """Bring a pool's pods in line with what it should have, of whatever kind they are.

    Two callers at once do no harm.

    Returns:
        What was changed, or would be.

    Raises:
        ClusterError: the pool has pods in a cluster, which gave no answer.
    """
    return _reconcile([pool], dry_run)


def reconcile_all(*, dry_run: bool = False) -> list[Change]:
    """Do the same for every pool, with one look at the cluster.

    Raises:
        ClusterError: the cluster gave no answer; pools of local processes are in line.
    """
    return _reconcile(list(Pool.objects.all()), dry_run)


def _reconcile(pools: Sequence[Pool], dry_run: bool) -> list[Change]:
    changes = reconcile_local_pods(pools, dry_run=dry_run)
    in_cluster = [pool for pool in cluster_pools() if pool in pools]
    if in_cluster:
        # Only where there is a cluster, its client is worth its memory.
        from pods_app.cluster.reconcile import reconcile_cluster

        changes += reconcile_cluster(in_cluster, dry_run=dry_run)
    return changes


def reconcile_local_pods(pools: Iterable[Pool], *, dry_run: bool = False) -> list[Change]:
    """Create missing pods, start dead agents again, and end pods that are too many.

    How many there should be, the autoscaler says. An agent that is started again re-adopts its
    work. A pod ends only when all its slots are free. Two callers at once do no harm.

    Returns:
        What was changed, or would be.
    """
    changes: list[Change] = []
    rows = list(pools)
    wanted = decide([pool for pool in rows if pool.kind in _HOSTINGS], dry_run=dry_run)
    for pool in rows:
        for kind, hosting in _HOSTINGS.items():
            scaling = wanted.get(pool.pk) if pool.kind == kind else None
            round_ = _Round(pool, hosting, dry_run, scaling.desired if scaling else 0)
            _reconcile_kind(round_, kind, pool.scale_down_delay_seconds if scaling else 0)
            changes += round_.changes
    return changes


def _reconcile_kind(round_: _Round, kind: str, delay_seconds: float) -> None:
    """Bring a pool's pods of one kind in line."""
    pool, rows = round_.pool, ManagedPod.objects.select_related("pool").exclude(phase=PodPhase.GONE)
    mine = with_occupancy(rows.filter(pool=pool, kind=kind))
    found = _forget_strangers(round_, list(mine.order_by("created_at", "id")))
    pods = _end_deleted(round_, found)
    surplus = _surplus(pods, round_.wanted, delay_seconds)
    for pod in surplus:
        _retire(round_, pod)
    if not pool.frozen:
        names = {pod.pod_name for pod in found}
        kept = [pod for pod in pods if pod not in surplus]
        kept += _create(round_, names, round_.wanted - len(kept))
        for pod in kept:
            _keep_alive(round_, pod)


def _forget_strangers(round_: _Round, pods: list[ManagedPod]) -> list[ManagedPod]:
    """Give up pods of machines that went away with them; return the others."""
    here, rest = round_.hosting.here(), []
    for pod in pods:
        lost = pod.phase == PodPhase.LOST or (
            pod.phase == PodPhase.STARTING and not _launched_within(pod, STRANGER_SECONDS)
        )
        if pod.host in ("", here) or not lost:
            rest.append(pod)
        elif round_.note(pod.pod_name, "forget", f"machine {pod.host} is not heard of"):
            _gone(round_, pod, f"machine {pod.host} is not heard of any more")
    return rest


def _end_deleted(round_: _Round, pods: list[ManagedPod]) -> list[ManagedPod]:
    """End the pods that people delete, with all that runs in them; return the others."""
    here, rest = round_.hosting.here(), []
    for pod in pods:
        if not (cause := pod.deletion_reason):
            rest.append(pod)
            continue
        mine = pod.host in ("", here)
        # Forgotten only when nothing of it is left: until then each pass tries again.
        if mine and round_.note(pod.pod_name, "delete", cause) and round_.hosting.kill(pod):
            _gone(round_, pod, cause)
    return rest


def _surplus(pods: Sequence[Any], wanted: int, delay_seconds: float) -> list[ManagedPod]:
    """Return the pods that are too many: those that end already, then the longest idle ones.

    What has work, or had some within the delay, stays though it is too many.

    Args:
        pods: with their occupancy, oldest first.
    """
    too_many = len(pods) - wanted
    ending = [pod for pod in pods if pod.draining and pod.phase_reason == TOO_MANY]
    idle = [
        pod
        for pod in pods
        if pod not in ending
        and not (pod.running or pod.reserved)
        and pod.now - pod.changed_at >= timedelta(seconds=delay_seconds)
    ]
    # Of those that were idle for equally long, the youngest.
    idle.sort(key=lambda pod: (not pod.draining, pod.changed_at, -pods.index(pod)))
    return [*ending, *idle][:too_many] if too_many > 0 else []


def _retire(round_: _Round, pod: ManagedPod) -> None:
    """Drain a pod once it is free, ask its agent to end, and forget it when it has."""
    if pod.host not in ("", round_.hosting.here()):
        return  # its own machine's controller ends it
    alive = round_.hosting.alive(pod)
    if pod.draining and pod.ending and alive:
        return  # under way
    if not round_.note(pod.pod_name, "end", f"the pool wants {round_.wanted} pods"):
        return
    free = drain_if_free(pod.pk, actor=RECONCILE, reason=TOO_MANY)
    if free and not round_.hosting.delete(pod):
        _gone(round_, pod, "it was one too many and has ended")


def _gone(round_: _Round, pod: ManagedPod, cause: str) -> None:
    forget_pod(pod, actor=RECONCILE, cause=cause)


def hosting_of(pod: ManagedPod) -> Hosting | None:
    """Return what created the pod; None: somebody started its agent by hand."""
    if pod.kind == PoolKind.KUBERNETES:
        from pods_app.cluster.hosting import KubernetesHosting

        return KubernetesHosting()
    return _HOSTINGS.get(pod.kind)


def forget_pod(pod: ManagedPod, *, actor: Actor, cause: str, on_purpose: bool = False) -> None:
    """Note that a pod is gone for ever, and remove what is left of it; see `pod_is_gone`."""
    pod_is_gone(pod.pk, actor=actor, cause=cause, on_purpose=on_purpose)
    PoolToken.objects.filter(pool=pod.pool, name=_token_name(pod)).delete()
    hosting = hosting_of(pod)
    if hosting is not None and pod.host == hosting.here():
        hosting.forget(pod)


def _create(round_: _Round, names: set[str], missing: int) -> list[ManagedPod]:
    """Enter missing pods under the first free names; their agents are started afterwards."""
    created: list[ManagedPod] = []
    number = 0
    while len(created) < missing:
        name = f"{round_.pool.name}-{number}"
        number += 1
        if name in names:
            continue
        pod = ManagedPod(
            pool=round_.pool,
            pod_name=name,
            pod_uid=str(uuid.uuid4()),
            kind=PoolKind.LOCAL,
            host=round_.hosting.here(),
            slot_limit=round_.pool.slots_per_pod,
        )
        created.append(pod)
        if round_.note(name, "create", f"the pool wants {round_.wanted} pods"):
            try:
                with transaction.atomic():
                    pod.save(force_insert=True)
                    add_slots(pod, round_.pool.slots_per_pod)
            except IntegrityError:
                created.remove(pod)  # somebody else made it at this moment
                missing -= 1
    return [] if round_.dry_run else created


def _keep_alive(round_: _Round, pod: ManagedPod) -> None:
    if pod.host not in ("", round_.hosting.here()):
        return
    if round_.hosting.alive(pod):
        _look_after(round_, pod)
        return
    failed = pod.failed_launches
    pause = min(2**failed, BACK_OFF_SECONDS_MAX) if failed else 0
    if pause and _launched_within(pod, pause):
        _explain(round_, pod, failed, pause)
        return
    act = round_.note(pod.pod_name, "start", "its agent is not running")
    if act and _claim_launch(pod, round_.hosting.here()):
        if pod.draining and pod.phase_reason == TOO_MANY:
            # Nothing of it lives that could take the work with it.
            with transaction.atomic():
                begin_return(pod.pk)
                end_return(pod.pk, actor=RECONCILE)
        round_.hosting.create(pod, _new_token(round_, pod))
        record(
            "pod.started",
            actor=RECONCILE,
            data={"pod": pod.pod_name, "pool": round_.pool.name, "attempt": failed + 1},
        )


def _claim_launch(pod: ManagedPod, host: str) -> bool:
    """Take the right to start a pod's agent now; one of many callers gets it."""
    unchanged = Q(last_launch_at=pod.last_launch_at, failed_launches=pod.failed_launches)
    claimed = (
        ManagedPod.objects.filter(unchanged, pk=pod.pk)
        .exclude(phase=PodPhase.GONE)
        .update(
            last_launch_at=ClockTimestamp(),
            failed_launches=F("failed_launches") + 1,
            host=host,
        )
    )
    return bool(claimed)


def _look_after(round_: _Round, pod: ManagedPod) -> None:
    """What a running agent may need."""
    if round_.dry_run:
        return
    if pod.draining and pod.phase_reason == TOO_MANY:
        # It is wanted again, and started again once it has ended. Asked once: whoever drained it
        # may have died before that.
        round_.hosting.delete(pod)
        return
    if pod.failed_launches and not _launched_within(pod, HEALTHY_SECONDS):
        ManagedPod.objects.filter(pk=pod.pk).update(failed_launches=0)
    if pod.phase == PodPhase.ONLINE or _launched_within(pod, RENEW_SECONDS):
        return
    # It runs and cannot register: its token of an earlier launch has expired, or the database
    # was restored and does not know it.
    tokens = PoolToken.objects.filter(pool=round_.pool, name=_token_name(pod))
    if not tokens.filter(created_at__gt=_ago(RENEW_SECONDS)).exists():
        round_.hosting.renew(pod, _new_token(round_, pod))


def _explain(round_: _Round, pod: ManagedPod, failed: int, pause: int) -> None:
    """Say on the pod why it is not started at once."""
    words = round_.hosting.last_words(pod)
    reason = f"Its agent ended soon after its start, {failed} times; started again every {pause} s"
    reason = (reason + (f". Its log ends: {words}" if words else ""))[:500]
    if not round_.dry_run and failed > 1:
        ManagedPod.objects.filter(pk=pod.pk).exclude(phase_reason=reason).update(
            phase_reason=reason
        )


def _new_token(round_: _Round, pod: ManagedPod) -> str:
    """Make the pod's token; it replaces the one of its former launch."""
    name = _token_name(pod)
    PoolToken.objects.filter(pool=round_.pool, name=name).delete()
    _, token = create_pool_token(actor=RECONCILE, pool=round_.pool, name=name, lifetime=_TOKEN_LIFE)
    return token


def _token_name(pod: ManagedPod) -> str:
    return f"pod {pod.pod_name}"[:100]


def _launched_within(pod: ManagedPod, seconds: float) -> bool:
    return ManagedPod.objects.filter(pk=pod.pk, last_launch_at__gt=_ago(seconds)).exists()


def _ago(seconds: float) -> Any:
    return ClockTimestamp() - timedelta(seconds=seconds)


def stop_pods(pool: Pool) -> int:
    """Ask this machine's pods of a pool to drain and end; returns how many run."""
    return sum(
        hosting.delete(pod)
        for kind, hosting in _HOSTINGS.items()
        for pod in ManagedPod.objects.filter(
            pool=pool, kind=kind, host__in=["", hosting.here()]
        ).exclude(phase=PodPhase.GONE)
    )
