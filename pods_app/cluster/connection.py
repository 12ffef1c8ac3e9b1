"""Which cluster this process speaks to, from Slipway's settings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.conf import settings
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)
from yaml import YAMLError

from pods_app.cluster.builder import Surroundings
from pods_app.cluster.client import Cluster
from pods_app.cluster.errors import NotConfigured
from pods_app.cluster.overlap import AT_ONCE
from pods_app.cluster.transport import Transport
from pods_app.incarnation import installation

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def cluster() -> Cluster:
    """Return the client of the cluster that the settings name; one per process.

    Raises:
        NotConfigured: there is none, or its kubeconfig cannot be used.
    """
    slipway = settings.SLIPWAY
    return _cluster(slipway.kubeconfig, slipway.cluster_namespace)


@lru_cache(maxsize=4)
def _cluster(kubeconfig: str, namespace: str) -> Cluster:
    configuration = Configuration()
    # A number of tries of urllib3's own would hide what the API said.
    configuration.retries = False
    # Requests that overlap, and beside them a pass and the watch; one too many costs a handshake.
    configuration.connection_pool_maxsize = AT_ONCE + 4
    try:
        if kubeconfig:
            load_kube_config(kubeconfig, client_configuration=configuration)
            own = list_kube_config_contexts(kubeconfig)[1]["context"].get("namespace", "")
        else:
            load_incluster_config(client_configuration=configuration)
            own = _OWN_NAMESPACE.read_text().strip()
    except (ConfigException, OSError, YAMLError) as error:
        raise NotConfigured(
            "Slipway knows of no Kubernetes cluster: run it in one, or set SLIPWAY_KUBECONFIG to "
            f"a kubeconfig. ({error})"
        ) from None
    return Cluster(Transport(ApiClient(configuration)), namespace or own or "default")


def surroundings() -> Surroundings:
    """Return what is the same for every pod of this installation.

    Raises:
        NotConfigured
    """
    slipway = settings.SLIPWAY
    return Surroundings(
        owner=str(installation().owner),
        namespace=cluster().namespace,
        url=slipway.url,
        image=slipway.agent_image,
        service_account=slipway.agent_service_account,
        work_directory=str(slipway.work_directory),
    )
