"""What can be said of a pool's settings before they are stored: the cluster is asked."""

from __future__ import annotations

from pods_app.cluster.connection import cluster, surroundings
from pods_app.cluster.errors import ClusterError, Forbidden, NameTaken, QuotaExceeded, Rejected
from pods_app.cluster.hosting import manifest_of
from pods_app.cluster.names import may_name_pods, pod_name
from pods_app.models import Pool
from tasks_app.exceptions import InvalidInput


def check_pool(pool: Pool) -> None:
    """Have the cluster say whether it would take the pool's pods (a dry run).

    Raises:
        InvalidInput: it would not, or cannot be asked; the sentence says what to do.
    """
    if not may_name_pods(pool.name):
        raise InvalidInput(
            "Pods are named after the pool: use small letters, digits and hyphens, with a letter "
            "or digit at both ends.",
            field="name",
        )
    try:
        api, around = cluster(), surroundings()
        # A name of its own: whether pod 0 exists does not matter.
        name = pod_name(pool.name, 0) + "-check"
        api.create_pod(manifest_of(pool, around, name=name, row_id=""), dry_run=True)
    except (QuotaExceeded, NameTaken):
        return  # it is well formed; when there is room, is another matter
    except (Rejected, Forbidden) as error:
        raise InvalidInput(error.detail, field="pod_template") from None
    except ClusterError as error:
        raise InvalidInput(f"The pool is not saved: {error.detail}", field="kind") from None
