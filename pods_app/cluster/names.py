"""What Slipway calls its pods in a cluster, and by which marks it knows them again."""

from __future__ import annotations

import re

MANAGED_BY = "app.kubernetes.io/managed-by"
SLIPWAY = "slipway"
#: Label: the installation that owns the pod. Another installation's pods are never touched.
OWNER = "slipway/installation"
#: Label: the pool's id; its name may change.
POOL = "slipway/pool"
#: Label: whether a slot of the pod runs or keeps something. A PodDisruptionBudget selects it.
BUSY = "slipway/busy"
#: Annotation: id of the pod's row.
ROW = "slipway/pod"
#: Annotation: digest of what the pod was made from.
TEMPLATE = "slipway/template"
#: Annotation: another one each time that a pod which was too many takes work again.
RETURN = "slipway/return"

#: Annotations by which node autoscalers are kept away from a busy pod.
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"

#: The container that is the agent; others in a template run beside it.
CONTAINER = "agent"

_POOL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def pod_name(pool: str, number: int) -> str:
    """Return the name of a pool's pod; the same pool and number give the same name."""
    return f"{pool}-{number}"


def may_name_pods(pool: str) -> bool:
    """Return whether pods may be called after the pool (RFC 1123 labels)."""
    return _POOL_NAME.fullmatch(pool) is not None


def busy_marks(busy: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return labels and annotations that protect a busy pod, or let an idle one be moved."""
    word = "true" if busy else "false"
    return (
        {BUSY: word},
        {SAFE_TO_EVICT: "false" if busy else "true", DO_NOT_DISRUPT: word},
    )
