"""Pure: a pool's settings and template become the pod that the cluster is asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pods_app.cluster import names
from pods_app.cluster.template import default_template, merge
from tasks_app.exceptions import InvalidInput

#: Where the kubelet keeps the pod's token fresh; valid for this installation's address only.
TOKEN_FOLDER = "/var/run/secrets/slipway"
TOKEN_SECONDS = 3600
AGENT_DIRECTORY = "/var/lib/slipway/agent"

_FIELD = "pod_template"
#: What Slipway alone decides of a pod.
_OWN_SPEC = (
    "restartPolicy",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "enableServiceLinks",
)
_OWN_ENVIRONMENT = (
    "DJANGO_SETTINGS_MODULE",
    "SLIPWAY_URL",
    "SLIPWAY_POD_NAME",
    "SLIPWAY_POD_UID",
    "SLIPWAY_POOL_TOKEN",
    "SLIPWAY_POOL_TOKEN_FILE",
    "SLIPWAY_AGENT_DIRECTORY",
    "SLIPWAY_SLOTS",
)


@dataclass(frozen=True)
class Surroundings:
    """What is the same for every pod of the installation."""

    owner: str  # the installation's mark
    namespace: str
    url: str  # where agents reach Slipway; also the audience of their tokens
    image: str  # for templates that name none; "" if there is none
    service_account: str
    work_directory: str


def build_pod(
    *,
    around: Surroundings,
    template: dict[str, Any],
    pool_id: str,
    slots: int,
    name: str,
    row_id: str,
) -> dict[str, Any]:
    """Return the manifest of a pod, as the API takes it.

    Args:
        template: as `parse_template` returns it.
        row_id: of the pod's row, by which it is known again.

    Raises:
        InvalidInput: the template sets what Slipway decides, or no image is named.
    """
    _refuse_own_fields(template)
    pod: dict[str, Any] = merge(default_template(), template)
    spec = pod["spec"]
    agent = _agent(spec)
    if not agent.setdefault("image", around.image):
        raise InvalidInput(
            "No image is named: set spec.containers[name=agent].image in the pool's template, or "
            "SLIPWAY_AGENT_IMAGE.",
            field=_FIELD,
        )
    own_spec = {
        "restartPolicy": "Never",
        "serviceAccountName": around.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "volumes": [_token_volume(around.url)],
        "containers": [_own_container(around, slots)],
    }
    labels, annotations = names.busy_marks(False)
    own_metadata = {
        "name": name,
        "namespace": around.namespace,
        "labels": {
            names.MANAGED_BY: names.SLIPWAY,
            names.OWNER: around.owner,
            names.POOL: pool_id,
            **labels,
        },
        "annotations": annotations,
    }
    pod = merge(pod, {"metadata": own_metadata, "spec": own_spec})
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"]["annotations"] |= {names.TEMPLATE: digest(pod), names.ROW: row_id}
    return pod


def digest(pod: dict[str, Any]) -> str:
    """Return the digest of what a pod is made from, the same for every pod of a pool."""
    content = json.loads(json.dumps(pod))
    content["metadata"].pop("name", None)
    for annotation in (names.TEMPLATE, names.ROW):
        content["metadata"]["annotations"].pop(annotation, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _agent(spec: dict[str, Any]) -> dict[str, Any]:
    for container in spec.get("containers", []):
        if container["name"] == names.CONTAINER:
            found: dict[str, Any] = container
            return found
    raise InvalidInput(
        f"spec.containers must keep the container “{names.CONTAINER}”.", field=_FIELD
    )


def _own_container(around: Surroundings, slots: int) -> dict[str, Any]:
    values = {
        "DJANGO_SETTINGS_MODULE": "config.settings.agent",
        "SLIPWAY_URL": around.url,
        "SLIPWAY_POOL_TOKEN_FILE": f"{TOKEN_FOLDER}/token",
        "SLIPWAY_AGENT_DIRECTORY": AGENT_DIRECTORY,
        "SLIPWAY_SLOTS": str(slots),
    }
    references = {"SLIPWAY_POD_NAME": "metadata.name", "SLIPWAY_POD_UID": "metadata.uid"}
    environment: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in values.items()
    ]
    environment += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in references.items()
    ]
    return {
        "name": names.CONTAINER,
        "env": environment,
        "volumeMounts": [
            {"name": "slipway-token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "work", "mountPath": around.work_directory},
            {"name": "agent", "mountPath": AGENT_DIRECTORY},
        ],
    }


def _token_volume(audience: str) -> dict[str, Any]:
    token = {"path": "token", "audience": audience, "expirationSeconds": TOKEN_SECONDS}
    return {"name": "slipway-token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _refuse_own_fields(template: dict[str, Any]) -> None:
    spec = template.get("spec") or {}
    for name in _OWN_SPEC:
        if name in spec:
            raise InvalidInput(f"Slipway sets spec.{name}; remove it.", field=_FIELD)
    metadata = template.get("metadata") or {}
    for part in ("labels", "annotations"):
        for name in metadata.get(part) or {}:
            if str(name).startswith("slipway/") or name == names.MANAGED_BY:
                raise InvalidInput(f"Slipway sets metadata.{part}.{name}; remove it.", field=_FIELD)
    for container in spec.get("containers") or []:
        if container["name"] != names.CONTAINER:
            continue
        for variable in container.get("env") or []:
            if variable["name"] in _OWN_ENVIRONMENT:
                raise InvalidInput(
                    f"Slipway sets the environment variable {variable['name']}; remove it.",
                    field=_FIELD,
                )
