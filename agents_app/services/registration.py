"""An agent introduces itself with a token of its pool or pod, and gets a token of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction

from agents_app import tokens
from agents_app.models import Agent
from agents_app.schema import RegisterReply, RegisterRequest
from pods_app.incarnation import installation
from pods_app.models import ManagedPod
from pods_app.queue import fill_slots
from pods_app.registration import is_pool_token, pool_of_token, register_pod
from pods_app.states import PoolKind
from pods_app.warmups import warm_pass
from tasks_app.actors import Actor
from tasks_app.after_commit import after_commit
from tasks_app.exceptions import NotPermitted, Unauthenticated
from tasks_app.ids import uuid7
from tasks_app.transitions import record

#: The same refusal is noted again by the same process after so many seconds.
_REFUSED_AGAIN_SECONDS = 600
_refused: dict[tuple[str, str], float] = {}


def register(token: str, message: RegisterRequest) -> RegisterReply:
    """Enter an agent, or the same pod's agent again with a new token.

    Repeating it is safe: the same ``pod_uid`` is the same agent; only its newest token counts.

    Args:
        token: the pool's, or that of the service account of the agent's pod.

    Raises:
        Unauthenticated: the token is unknown, expired or revoked.
        NotPermitted: the pod is another's, over, or has registered with another key; audited.
        ClusterError: the cluster cannot be asked whose the token is.
    """
    try:
        return _register(token, message)
    except NotPermitted as refusal:
        if _is_news(message.pod_uid, refusal.detail):
            record(
                "pod.registration_refused",
                actor=Actor.system("registration"),
                cause=refusal.detail,
                data={"pod": message.pod_name, "uid": message.pod_uid, "host": message.hostname},
            )
        raise


def _is_news(pod_uid: str, cause: str) -> bool:
    """Whether this process has not noted the same refusal lately: an agent that outlives its pod
    tries every few seconds."""
    now = time.monotonic()
    for known, noted in list(_refused.items()):
        if noted < now - _REFUSED_AGAIN_SECONDS:
            _refused.pop(known, None)
    news = (pod_uid, cause) not in _refused
    if news:
        _refused[pod_uid, cause] = now
    return news


def _register(token: str, message: RegisterRequest) -> RegisterReply:
    enter = _by_pool_token if is_pool_token(token) else _by_pod_token
    entered = enter(token, message)
    with transaction.atomic():
        pod = entered()
        facts = {
            "hostname": message.hostname,
            "program_version": message.program_version,
            "registration_key": message.registration_key,
        }
        agent = Agent.objects.filter(pod=pod).first()
        of_cluster = pod.kind == PoolKind.KUBERNETES
        if agent and of_cluster and agent.registration_key != message.registration_key:
            raise NotPermitted(
                f"The agent of pod {pod.pod_name} ({pod.pod_uid}) has registered already; this is "
                "another one with its token."
            )
        agent, _ = Agent.objects.update_or_create(
            pod=pod, defaults=facts, create_defaults={"id": UUID(pod.agent_id), **facts}
        )
        tokens.revoke_all(agent)
        token = tokens.issue(agent)
        # What waited for an agent starts now, not at the controller's next tick.
        after_commit(fill_slots, pod.pool_id)
        after_commit(warm_pass, {pod.pool_id})
    slipway = settings.SLIPWAY
    return RegisterReply(
        agent_id=agent.pk,
        agent_token=token,
        incarnation=installation().incarnation,
        base_path=str(slipway.work_directory),
        slots=pod.slot_limit,
        heartbeat_seconds=slipway.heartbeat_seconds,
        poll_seconds=slipway.poll_seconds,
        bundle_bytes_max=slipway.bundle_bytes_max,
        log_bytes_max=slipway.log_bytes_max,
        hold_bytes_max=slipway.hold_bytes_max,
    )


def _by_pool_token(token: str, message: RegisterRequest) -> Callable[[], ManagedPod]:
    """Check the token; returns what enters the pod."""
    try:
        pool = pool_of_token(token)
    except NotPermitted as refusal:
        raise Unauthenticated(refusal.detail) from None
    return partial(
        register_pod,
        pool=pool,
        pod_name=message.pod_name,
        pod_uid=message.pod_uid,
        engines=[engine.model_dump() for engine in message.engines],
        slots=message.slots,
        agent_id=uuid7(),
    )


def _by_pod_token(token: str, message: RegisterRequest) -> Callable[[], ManagedPod]:
    """Have the cluster check the token, outside a transaction; returns what enters the pod."""
    # Only where agents come from a cluster, its client is worth its memory.
    from pods_app.cluster.errors import NotConfigured
    from pods_app.cluster.registration import register_cluster_pod, review_pod

    try:
        identity = review_pod(token)
    except NotConfigured:
        raise Unauthenticated(
            "This is not a pool token: make one with `manage.py create_pool_token`."
        ) from None
    if (identity.name, identity.uid) != (message.pod_name, message.pod_uid):
        raise NotPermitted(
            f"The token is that of pod {identity.name} ({identity.uid}), not of "
            f"{message.pod_name} ({message.pod_uid})."
        )
    return partial(
        register_cluster_pod,
        identity,
        engines=[engine.model_dump() for engine in message.engines],
        slots=message.slots,
        agent_id=uuid7(),
    )
