"""The thin client: pods of one namespace as plain dictionaries.

A cluster that gives no answer raises; there is never an empty list instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import urllib3

from pods_app.cluster.errors import Absent, Changed, NameTaken, Rejected
from pods_app.cluster.transport import Transport, meaning, no_answer

#: How long the server keeps a watch open; a silent one is given up a little later.
WATCH_SECONDS = 30
_WATCH_READ_SECONDS = WATCH_SECONDS + 10.0
_FIELD_MANAGER = "slipway"


class Cluster:
    """Pods of one namespace. Safe for threads."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self.namespace = namespace
        self._transport = transport
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    def list_pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return the pods as they are now (not from a cache), and the list's resourceVersion.

        Raises:
            ClusterError: there is no answer; nothing is known.
        """
        answer = self._transport.ask("GET", self._pods, {"labelSelector": selector})
        return answer["items"], answer["metadata"]["resourceVersion"]

    def version(self, selector: str) -> str:
        """Return the resourceVersion as of now, from which to watch."""
        answer = self._transport.ask("GET", self._pods, {"labelSelector": selector, "limit": "1"})
        found: str = answer["metadata"]["resourceVersion"]
        return found

    def get_pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod; None if there is none of this name."""
        return self._unless_absent("GET", name)

    def create_pod(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create a pod, or have the server say whether it would.

        Raises:
            NameTaken: one of this name exists; perhaps from a try whose answer was lost.
            Rejected, QuotaExceeded, Forbidden.
        """
        query = {"fieldManager": _FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        try:
            return self._transport.ask("POST", self._pods, query, manifest)
        except Changed as error:
            raise NameTaken(error.detail) from None

    def delete_pod(
        self, name: str, *, uid: str, resource_version: str = "", grace: int | None = None
    ) -> bool:
        """Ask for the end of the very pod that has this UID.

        Args:
            resource_version: only if it has not changed since.
            grace: seconds instead of its own; 0 removes the object at once, whether or not its
                process has ended.

        Returns:
            False if it does not exist.

        Raises:
            Changed: another pod has the name, or it changed since: read again.
        """
        preconditions = {"uid": uid}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
        }
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        return self._unless_absent("DELETE", name, body=body) is not None

    def mark_pod(
        self, name: str, *, uid: str, labels: dict[str, str], annotations: dict[str, str]
    ) -> dict[str, Any] | None:
        """Set labels and annotations of the very pod that has this UID.

        Returns:
            The pod as it is now; None if it is gone.

        Raises:
            Changed: another pod has the name.
        """
        body = {"metadata": {"uid": uid, "labels": labels, "annotations": annotations}}
        query, kind = {"fieldManager": _FIELD_MANAGER}, "application/merge-patch+json"
        try:
            return self._unless_absent("PATCH", name, query, body, kind)
        except Rejected as error:
            if "metadata.uid" in error.detail:  # "field is immutable": another pod's
                raise Changed(error.detail) from None
            raise

    def events(self, uid: str) -> list[dict[str, Any]]:
        """Return what kubelet and scheduler said of a pod."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": "50"}
        found: list[dict[str, Any]] = self._transport.ask("GET", path, query)["items"]
        return found

    def review(self, token: str, audience: str) -> dict[str, Any]:
        """Ask the cluster whose token this is; returns the TokenReview's status."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        answer = self._transport.ask("POST", path, body=body)
        status: dict[str, Any] = answer.get("status") or {}
        return status

    def watch_pods(self, selector: str, resource_version: str) -> Iterator[dict[str, Any]]:
        """Yield events ({type, object}) since ``resource_version``, until the server's time-out.

        Raises:
            Expired: the version is too old: list again.
            ClusterError: the connection broke, or was never made.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": resource_version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        # The server keeps timeoutSeconds; should it freeze, only the reading time-out helps.
        response = self._transport.open("GET", self._pods, query, read_seconds=_WATCH_READ_SECONDS)
        buffer = b""
        try:
            for part in response.stream(amt=None):
                *lines, buffer = (buffer + part).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise meaning(event["object"].get("code", 500), event["object"])
                    yield event
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise no_answer(error) from None
        finally:
            response.close()

    def _unless_absent(
        self,
        method: str,
        name: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> dict[str, Any] | None:
        try:
            return self._transport.ask(method, f"{self._pods}/{name}", query, body, content_type)
        except Absent:
            return None
