"""Agents in pods prove who they are with the token that the kubelet gave their pod.

The cluster says whose token it is (TokenReview): the service account, the audience, and the
very pod it is bound to. There is no secret to hand out, and the UID is the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import ClusterError
from pods_app.models import ManagedPod, Pool
from pods_app.registration import bring_online
from pods_app.states import PodPhase, PoolKind
from tasks_app.exceptions import NotPermitted, Unauthenticated

#: Where a review's status names the pod a token is bound to.
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class NotEntered(ClusterError):
    """The pod is not in the database yet; its agent tries again."""

    type = "pod-not-entered"
    title = "The pod is not entered yet."


@dataclass(frozen=True)
class PodIdentity:
    """The pod a token belongs to, as the cluster says."""

    name: str
    uid: str


def review_pod(token: str) -> PodIdentity:
    """Return the pod that a projected token is bound to.

    Raises:
        Unauthenticated: the cluster does not know the token for this installation: it is
            expired, of another audience, or its pod is gone.
        NotPermitted: it is somebody else's: another namespace or service account, or no pod's.
        ClusterError: the cluster cannot be asked.
    """
    api, audience = cluster(), settings.SLIPWAY.url
    status = api.review(token, audience)
    if not status.get("authenticated") or audience not in (status.get("audiences") or []):
        raise Unauthenticated(
            "The cluster does not know this service account token, or it is not meant for "
            f"{audience}. An agent in a pod reads the token anew at each try."
        )
    user: dict[str, Any] = status.get("user") or {}
    wanted = f"system:serviceaccount:{api.namespace}:{settings.SLIPWAY.agent_service_account}"
    if user.get("username") != wanted:
        raise NotPermitted(f"Agents' pods run as {wanted}, not as {user.get('username')}.")
    extra = user.get("extra") or {}
    name, uid = _only(extra.get(_POD_NAME)), _only(extra.get(_POD_UID))
    if not name or not uid:
        raise NotPermitted("The token is not bound to a pod.")
    return PodIdentity(name, uid)


def _only(values: list[str] | None) -> str:
    return values[0] if values and len(values) == 1 else ""


def register_cluster_pod(
    pod: PodIdentity, *, engines: list[dict[str, str]], slots: int, agent_id: UUID
) -> ManagedPod:
    """Let the agent of a pod in; it must be one that this installation made.

    Args:
        slots, agent_id: as for `register_pod`.

    Raises:
        NotEntered: there is no such row: it is being made, or was lost with a restored database.
        NotPermitted: the pod is over.
    """
    with transaction.atomic():
        pool = (
            Pool.objects.select_for_update(no_key=True, of=("self",))
            .filter(pods__kind=PoolKind.KUBERNETES, pods__pod_uid=pod.uid)
            .first()
        )
        row = (
            ManagedPod.objects.select_for_update()
            .filter(kind=PoolKind.KUBERNETES, pod_uid=pod.uid, pod_name=pod.name)
            .first()
        )
        if pool is None or row is None:
            raise NotEntered(f"Pod {pod.name} ({pod.uid}) is not entered yet; try again.")
        if row.phase == PodPhase.GONE:
            raise NotPermitted(f"Pod {pod.name} ({pod.uid}) is over: {row.phase_reason}")
        return bring_online(
            pool,
            row,
            engines=engines,
            slots=slots,
            agent_id=agent_id,
            again=bool(row.agent_id),
        )
