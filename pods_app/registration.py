"""Pods come: pool tokens, registration of agents' pods, and what a heartbeat says of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from pods_app.leases import unended
from pods_app.locking import lock_pod
from pods_app.models import Lease, ManagedPod, PodSlot, Pool, PoolToken
from pods_app.notify import notify_controller
from pods_app.outcomes import lose_lease, resumed
from pods_app.services import pod_is_gone
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import NameTaken, NotPermitted
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

TOKEN_PREFIX = "slp_"


def hash_token(token: str) -> str:
    """Return what is stored of a token of at least 128 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_pool_token(token: str) -> bool:
    """Return whether it looks like one; what does not may be a service account's."""
    return token.count(".") != 2


def create_pool_token(
    *,
    actor: Actor,
    pool: Pool,
    name: str,
    expires_at: datetime | None = None,
    lifetime: timedelta | None = None,
) -> tuple[PoolToken, str]:
    """Make a token with which agents register in ``pool``.

    Args:
        lifetime: instead of ``expires_at``, counted in database time.

    Returns:
        The row, and the token itself, which is not stored and cannot be shown again.
    """
    require(actor, Action.OPERATE, None)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        row = PoolToken.objects.create(
            pool=pool,
            name=name,
            token_hash=hash_token(token),
            expires_at=expires_at,
            created_by=actor.user,
        )
        if lifetime is not None:
            PoolToken.objects.filter(pk=row.pk).update(expires_at=ClockTimestamp() + lifetime)
        record("pool_token.created", actor=actor, data={"pool": pool.name, "name": name})
    return row, token


def revoke_pool_token(*, actor: Actor, token: PoolToken) -> None:
    """Agents can no longer register with it; registered ones go on."""
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        PoolToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=ClockTimestamp())
        record("pool_token.revoked", actor=actor, data={"name": token.name})


def pool_of_token(token: str) -> Pool:
    """Return the pool a token registers in.

    Raises:
        NotPermitted: unknown, expired or revoked.
    """
    row = (
        PoolToken.objects.select_related("pool")
        .filter(token_hash=hash_token(token), revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=ClockTimestamp()))
        .first()
    )
    if row is None:
        raise NotPermitted(
            "The pool token is unknown, expired or revoked; make one with "
            "`manage.py create_pool_token`."
        )
    return row.pool


def register_pod(
    *,
    pool: Pool,
    pod_name: str,
    pod_uid: str,
    engines: list[dict[str, str]],
    slots: int,
    agent_id: UUID,
) -> ManagedPod:
    """Enter an agent's pod, or the same pod again after its agent restarted.

    A pod of the same name with another UID is its successor: the old one is gone, and its work
    is returned. Two pods that people started under one name would take it from each other for
    ever: the second is refused while the first is heard.

    Args:
        slots: how many the agent offers; the pool's ``slots_per_pod`` is the most it gets.
        agent_id: of the agent in it; kept when the pod is known.

    Raises:
        NameTaken: another pod has the name, and was heard within the last two heartbeats.
        NotPermitted: it is a pod of the cluster, whose agent has a token of its own.
    """
    actor = Actor.agent(agent_id)
    with transaction.atomic():
        pool = Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
        _refuse_taken_name(pool, pod_name, pod_uid)
        _refuse_names_of_the_cluster(pool, pod_name, pod_uid)
        for former_id in (
            ManagedPod.objects.filter(pool=pool, pod_name=pod_name)
            .exclude(Q(pod_uid=pod_uid) | Q(phase=PodPhase.GONE))
            .values_list("pk", flat=True)
        ):
            pod_is_gone(former_id, actor=actor, cause="another pod took its name")
        pod, created = ManagedPod.objects.get_or_create(
            pool=pool,
            pod_uid=pod_uid,
            defaults={
                "pod_name": pod_name,
                "kind": PoolKind.STATIC,
                "agent_id": str(agent_id),
            },
        )
        pod.pod_name = pod_name
        return bring_online(
            pool, pod, engines=engines, slots=slots, agent_id=agent_id, again=not created
        )


def bring_online(
    pool: Pool,
    pod: ManagedPod,
    *,
    engines: list[dict[str, str]],
    slots: int,
    agent_id: UUID,
    again: bool,
) -> ManagedPod:
    """Let the agent of an entered pod in; the caller has locked the pool.

    Args:
        again: the pod's agent has registered before.
    """
    pod.agent_id = pod.agent_id or str(agent_id)
    pod.engines, pod.phase = engines, PodPhase.ONLINE
    # Whoever asked it to end asked the former process; an operator's draining stays.
    pod.ending = False
    if not pod.draining:
        pod.phase_reason = ""
    pod.slot_limit = min(slots, pool.slots_per_pod)
    pod.save(
        update_fields=[
            "agent_id",
            "pod_name",
            "engines",
            "phase",
            "phase_reason",
            "ending",
            "slot_limit",
        ]
    )
    ManagedPod.objects.filter(pk=pod.pk).update(last_heartbeat=ClockTimestamp())
    add_slots(pod, pod.slot_limit)
    record(
        "pod.registered",
        actor=Actor.agent(agent_id),
        data={"pod": pod.pod_name, "pool": pool.name, "again": again},
    )
    notify_controller()
    pod.refresh_from_db()
    return pod


def _refuse_names_of_the_cluster(pool: Pool, pod_name: str, pod_uid: str) -> None:
    """A pool token must not bring anybody into the place of a pod of the cluster."""
    taken = ManagedPod.objects.filter(
        Q(pod_name=pod_name) | Q(pod_uid=pod_uid), pool=pool, kind=PoolKind.KUBERNETES
    )
    if taken.exclude(phase=PodPhase.GONE).exists():
        raise NotPermitted(
            f"{pod_name} is a pod of the cluster, whose agent registers with its service account's "
            "token. Give this agent another --pod-name."
        )


def _refuse_taken_name(pool: Pool, pod_name: str, pod_uid: str) -> None:
    silence = timedelta(seconds=2 * settings.SLIPWAY.heartbeat_seconds)
    alive = ManagedPod.objects.filter(
        pool=pool,
        pod_name=pod_name,
        kind=PoolKind.STATIC,
        phase=PodPhase.ONLINE,
        last_heartbeat__gt=ClockTimestamp() - silence,
    )
    if alive.exclude(pod_uid=pod_uid).exists():
        raise NameTaken(
            f"Another agent of pool {pool.name} is named {pod_name} and alive. Give each agent "
            "its own --pod-name (SLIPWAY_POD_NAME); one that replaces it only has to wait."
        )


def add_slots(pod: ManagedPod, slots: int) -> None:
    """Give a pod its slots; those it has are kept."""
    PodSlot.objects.bulk_create(
        [PodSlot(pod=pod, slot_id=number) for number in range(slots)], ignore_conflicts=True
    )


#: Written out: of hundreds of idle agents it is most of what the database hears.
_HEARD = """
UPDATE pods_app_managedpod SET
    last_heartbeat = clock_timestamp(), disk_total_bytes = %s, disk_free_bytes = %s
WHERE id = %s RETURNING phase, ending
"""


def heartbeat(
    pod: ManagedPod,
    *,
    engines: list[dict[str, str]],
    providers: list[str],
    disk_total_bytes: int,
    disk_free_bytes: int,
    draining: bool,
) -> None:
    """Store a heartbeat in database time; a lost pod is online again.

    Args:
        draining: the agent was asked by a signal to end, and takes no new work.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HEARD, [disk_total_bytes, disk_free_bytes, pod.pk])
        phase, ending = cursor.fetchone()
    if (engines, providers) != (pod.engines, pod.providers):
        ManagedPod.objects.filter(pk=pod.pk).update(engines=engines, providers=providers)
    returned = False
    if phase in {PodPhase.LOST, PodPhase.STARTING}:
        returned = bool(
            ManagedPod.objects.filter(pk=pod.pk, phase=phase).update(
                phase=PodPhase.ONLINE, phase_reason=""
            )
        )
    if returned and phase == PodPhase.LOST:
        record("pod.returned", actor=Actor.agent(pod.agent_id), data={"pod": pod.pod_name})
    if draining != ending:
        with transaction.atomic():
            lock_pod(pod.pk)
            ManagedPod.objects.filter(pk=pod.pk).update(ending=draining)
    if returned:
        notify_controller()


def lets_go(pod: ManagedPod) -> None:
    """An agent gives back what nobody asked it to: mostly, it was asked to end by a signal.

    It gets nothing new, least of all the same again, until its next heartbeat says how it is.
    """
    with transaction.atomic():
        lock_pod(pod.pk)
        ManagedPod.objects.filter(pk=pod.pk).update(ending=True)


#: A lease the agent once named and names no more is lost after so many seconds.
FORGOTTEN_SECONDS = 20
#: Work that the agent never named since it was given is returned after so many seconds.
UNCLAIMED_SECONDS = 60


_MINE = """
SELECT lease.id, lease.phase = 'apply' AND task.status = 'apply_unknown'
FROM pods_app_lease lease
JOIN pods_app_podslot slot ON slot.id = lease.slot_id
JOIN workspace_tasks task ON task.id = lease.task_id
WHERE slot.pod_id = %s AND lease.state <> 'ended'
"""


def report_leases(pod: ManagedPod, lease_ids: Iterable[UUID]) -> None:
    """Compare what the agent says it has with what it should have, and repair.

    A named lease is noted, and a lost apply that is named is applying again. A lease that was
    named before and is not any more went with a former process of the agent.
    """
    named = set(lease_ids)
    actor = Actor.agent(pod.agent_id)
    with connection.cursor() as cursor:
        cursor.execute(_MINE, [pod.pk])
        mine: dict[UUID, bool] = dict(cursor.fetchall())
    if heard := mine.keys() & named:
        unended(Lease.objects.filter(pk__in=heard)).update(reported_at=ClockTimestamp())
    if back := [lease_id for lease_id in heard if mine[lease_id]]:
        for lease in Lease.objects.select_related("task", "slot__pod").filter(pk__in=back):
            resumed(lease, actor=actor)
    if silent := mine.keys() - named:
        for lease in unended(Lease.objects.filter(_forgotten(), pk__in=silent)):
            cause = "the agent restarted and does not know its work"
            lose_lease(lease.pk, actor=actor, cause=cause)


def _forgotten() -> Q:
    # Delivered or not: an agent that was handed work and does not name it did not take it up.
    return Q(reported_at__lt=ClockTimestamp() - timedelta(seconds=FORGOTTEN_SECONDS)) | Q(
        reported_at=None,
        phase_at__lt=ClockTimestamp() - timedelta(seconds=UNCLAIMED_SECONDS),
    )
