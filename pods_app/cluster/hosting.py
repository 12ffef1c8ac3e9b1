"""Kubernetes hosting: a pod is a pod. Created directly: no Deployment, no Job, no restarts."""

from __future__ import annotations

from typing import Any

from pods_app.cluster import names
from pods_app.cluster.builder import Surroundings, build_pod
from pods_app.cluster.client import Cluster
from pods_app.cluster.connection import cluster, surroundings
from pods_app.cluster.errors import Changed, NameTaken
from pods_app.cluster.overlap import AT_ONCE
from pods_app.cluster.template import parse_template
from pods_app.models import ManagedPod, Pool


class KubernetesHosting:
    """Pods in the namespace that the settings name.

    Every call asks the cluster and raises ClusterError when it gives no answer.
    """

    kills_at_once = AT_ONCE

    def here(self) -> str:
        """Every process reaches every pod of the cluster: they are of no machine."""
        return ""

    def create(self, pod: ManagedPod, token: str = "") -> None:
        """Create the row's pod and note its UID; one that was made before is taken over.

        Args:
            token: not used: the agent registers with its service account's.

        Raises:
            NameTaken: somebody else's pod has the name.
            InvalidInput, ClusterError.
        """
        around = surroundings()
        manifest = manifest_of(pod.pool, around, name=pod.pod_name, row_id=str(pod.pk))
        made = create_once(cluster(), manifest, str(pod.pk))
        note(pod, made)

    def renew(self, pod: ManagedPod, token: str) -> None:
        """Nothing: the kubelet renews an agent's token."""

    def delete(self, pod: ManagedPod) -> bool:
        """Ask the agent to drain and end within its grace period; returns whether it exists."""
        return self._delete(pod, None)

    def kill(self, pod: ManagedPod) -> bool:
        """Remove the pod at once; returns whether the cluster has it no more.

        Its process may live on for a while: what it ran is fenced by its lease's epoch and by
        the state lock alone.
        """
        self._delete(pod, 0)
        return self._object(pod) is None

    def _delete(self, pod: ManagedPod, grace: int | None) -> bool:
        uid = pod.pod_uid
        if not uid:
            found = self._object(pod)
            if found is None:
                return False
            uid = found["metadata"]["uid"]
        try:
            return cluster().delete_pod(pod.pod_name, uid=uid, grace=grace)
        except Changed:
            return False  # another pod has its name: it is gone

    def alive(self, pod: ManagedPod) -> bool:
        """Return whether the cluster still has this very pod, and it has not ended."""
        found = self._object(pod)
        ended = {"Failed", "Succeeded"}
        return found is not None and (found.get("status") or {}).get("phase") not in ended

    def _object(self, pod: ManagedPod) -> dict[str, Any] | None:
        """Return the pod's object; one whose creation is not noted yet is known by its row."""
        found = cluster().get_pod(pod.pod_name)
        if found is None:
            return None
        known = found["metadata"]["uid"] == pod.pod_uid
        mine = known if pod.pod_uid else _row_of(found) == str(pod.pk)
        return found if mine else None

    def last_words(self, pod: ManagedPod) -> str:
        """Return what the last pass wrote about it."""
        return pod.phase_reason

    def forget(self, pod: ManagedPod) -> None:
        """Nothing: its volumes went with it."""


def manifest_of(pool: Pool, around: Surroundings, *, name: str, row_id: str) -> dict[str, Any]:
    """Return the manifest of a pool's pod.

    Raises:
        InvalidInput: the pool's template cannot be used.
    """
    return build_pod(
        around=around,
        template=parse_template(pool.pod_template),
        pool_id=str(pool.pk),
        slots=pool.slots_per_pod,
        name=name,
        row_id=row_id,
    )


def create_once(api: Cluster, manifest: dict[str, Any], row_id: str) -> dict[str, Any]:
    """Create a pod under its row's name, or return the one that an earlier try made.

    Raises:
        NameTaken: the name is another row's, or somebody else's.
        ClusterError
    """
    try:
        return api.create_pod(manifest)
    except NameTaken:
        name = manifest["metadata"]["name"]
        found = api.get_pod(name)
        if found is None or _row_of(found) != row_id:
            raise NameTaken(f"A pod {name} exists that is not this one.") from None
        return found


def note(pod: ManagedPod, made: dict[str, Any]) -> None:
    """Keep what the cluster said of a pod it has made."""
    metadata = made["metadata"]
    pod.pod_uid = metadata["uid"]
    pod.template_digest = (metadata.get("annotations") or {}).get(names.TEMPLATE, "")
    ManagedPod.objects.filter(pk=pod.pk, pod_uid="").update(
        pod_uid=pod.pod_uid, template_digest=pod.template_digest
    )


def _row_of(made: dict[str, Any]) -> str | None:
    """Return the id of the row that an object was made for, as it says."""
    row_id: str | None = (made["metadata"].get("annotations") or {}).get(names.ROW)
    return row_id
