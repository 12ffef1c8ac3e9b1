"""A namespace of the test API with what `deploy/` puts into it, and Slipway's way to it."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

import yaml

from pods_app.cluster.client import Cluster
from pods_app.cluster.errors import Absent
from tests.support.kube import Access
from tests.support.programs import ROOT

_GROUPS = {
    "rbac.authorization.k8s.io/v1": "/apis/rbac.authorization.k8s.io/v1",
    "apps/v1": "/apis/apps/v1",
    "batch/v1": "/apis/batch/v1",
    "policy/v1": "/apis/policy/v1",
    "networking.k8s.io/v1": "/apis/networking.k8s.io/v1",
    "v1": "/api/v1",
}
_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
_OF_THE_CLUSTER = {"ClusterRole", "ClusterRoleBinding", "Namespace"}


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


class Space:
    """A namespace, made with the shipped RBAC. The administrator acts here; Slipway does not."""

    def __init__(self, access: Access, name: str = "") -> None:
        self.access = access
        self.name = name or f"test-{uuid.uuid4().hex[:12]}"
        self.admin = access.admin()
        self.pods = Cluster(self.admin, self.name)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        self.admin.ask("POST", "/api/v1/namespaces", body=body)
        for document in documents(ROOT / "deploy" / "base" / "rbac.yaml"):
            self.apply(document)

    def apply(self, document: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object in this namespace; of those of the whole cluster, one for it."""
        body = self._placed(document)
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.admin.ask("POST", self._path(body), query, body)

    def _placed(self, document: dict[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(document)
        if body["kind"] in _OF_THE_CLUSTER:
            body["metadata"]["name"] += f"-{self.name}"
            if "roleRef" in body:
                body["roleRef"]["name"] += f"-{self.name}"
        else:
            body["metadata"]["namespace"] = self.name
        for subject in body.get("subjects", []):
            subject["namespace"] = self.name
        return body

    def _path(self, body: dict[str, Any]) -> str:
        kind = body["kind"]
        plural = _PLURALS.get(kind, f"{kind.lower()}s")
        space = "" if kind in _OF_THE_CLUSTER else f"/namespaces/{self.name}"
        return f"{_GROUPS[body['apiVersion']]}{space}/{plural}"

    # --- who acts -------------------------------------------------------------------------

    def token(
        self,
        account: str,
        *,
        audience: str = "",
        pod: dict[str, Any] | None = None,
        seconds: int = 3600,
    ) -> str:
        """Return a token of a service account, bound to a pod if one is given."""
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if audience:
            spec["audiences"] = [audience]
        if pod is not None:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
            spec["boundObjectRef"] = bound
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{account}/token"
        answer: str = self.admin.ask("POST", path, body=body)["status"]["token"]
        return answer

    def kubeconfig(self, account: str, url: str = "") -> Path:
        """Write a kubeconfig with which a process acts as a service account."""
        return self.access.kubeconfig(account, self.token(account), self.name, url)

    def role(self, name: str) -> dict[str, Any]:
        return self.admin.ask("GET", f"{self._roles}/{name}")

    def set_role(self, role: dict[str, Any]) -> None:
        self.admin.ask("PUT", f"{self._roles}/{role['metadata']['name']}", body=role)

    @property
    def _roles(self) -> str:
        return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.name}/roles"

    # --- pods -----------------------------------------------------------------------------

    def all_pods(self) -> list[dict[str, Any]]:
        return self.pods.list_pods("")[0]

    def bind(self, pod: dict[str, Any], node: str = "node-1") -> None:
        """Put a pod on a node, as the scheduler does."""
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": target,
        }
        path = f"/api/v1/namespaces/{self.name}/pods/{name}/binding"
        self.admin.ask("POST", path, body=body)

    def set_status(self, thing: dict[str, Any], **status: Any) -> dict[str, Any]:
        """Write an object's status, as the kubelet or a controller does."""
        thing = {"apiVersion": "v1", "kind": "Pod", **thing}
        path = f"{self._path(thing)}/{thing['metadata']['name']}/status"
        body = {"metadata": {"uid": thing["metadata"]["uid"]}, "status": status}
        return self.admin.ask("PATCH", path, None, body, "application/merge-patch+json")

    def remove(self, pod: dict[str, Any]) -> None:
        """Confirm a pod's end, as its kubelet does."""
        self.pods.delete_pod(pod["metadata"]["name"], uid=pod["metadata"]["uid"], grace=0)

    def close(self) -> None:
        """Remove what would be in the way of others; the server itself is thrown away."""
        for pod in self.all_pods():
            self.remove(pod)
        for kind in ("clusterrolebindings", "clusterroles"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}/slipway-token-review-{self.name}"
            try:
                self.admin.ask("DELETE", path)
            except Absent:
                continue
