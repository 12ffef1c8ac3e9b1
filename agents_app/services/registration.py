"""An agent introduces itself with a pool token and gets a token of its own."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import transaction

from agents_app import tokens
from agents_app.models import Agent
from agents_app.schema import RegisterReply, RegisterRequest
from pods_app.incarnation import installation
from pods_app.queue import fill_slots
from pods_app.registration import pool_of_token, register_pod
from tasks_app.after_commit import after_commit
from tasks_app.exceptions import NotPermitted, Unauthenticated
from tasks_app.ids import uuid7


def register(pool_token: str, message: RegisterRequest) -> RegisterReply:
    """Enter an agent, or the same pod's agent again with a new token.

    Repeating it is safe: the same ``pod_uid`` is the same agent; only its newest token counts.

    Raises:
        Unauthenticated: the pool token is unknown, expired or revoked.
    """
    try:
        pool = pool_of_token(pool_token)
    except NotPermitted as refusal:
        raise Unauthenticated(refusal.detail) from None
    with transaction.atomic():
        pod = register_pod(
            pool=pool,
            pod_name=message.pod_name,
            pod_uid=message.pod_uid,
            engines=[engine.model_dump() for engine in message.engines],
            slots=message.slots,
            agent_id=uuid7(),
        )
        facts = {"hostname": message.hostname, "program_version": message.program_version}
        agent, _ = Agent.objects.update_or_create(
            pod=pod, defaults=facts, create_defaults={"id": UUID(pod.agent_id), **facts}
        )
        tokens.revoke_all(agent)
        token = tokens.issue(agent)
        # What waited for an agent starts now, not at the controller's next tick.
        after_commit(fill_slots, pool.pk)
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
