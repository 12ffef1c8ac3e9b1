"""What a held Terraform was started with, against what it would be started with now.

What a run is given is compared by a digest of references, not of values: it changes whenever a
value does, and tells nothing about one to whoever reads the database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from django.conf import settings

from pods_app.leases import outdate
from pods_app.models import Lease, Pool, PoolCredential
from pods_app.states import RESERVING, LeaseState
from tasks_app.after_commit import after_commit
from tasks_app.models.project import AbstractCredential
from tasks_app.services.given import credentials_of, given_versions


def environment_digest(
    pool: Pool, versions: Iterable[UUID], credentials: Iterable[AbstractCredential]
) -> str:
    """Return the SHA-256 of what a run is given beside its plan: its state password is made for it.

    Args:
        versions: of its variables.
        credentials: the pool's and, prevailing over them, the project's.
    """
    rows = {(row.kind, row.host): row for row in credentials}
    given = [
        settings.SLIPWAY.url,  # where its state is
        pool.proxy,
        pool.ca_bundle,
        sorted(map(str, versions)),
        sorted(map(_reference, rows.values())),
    ]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _reference(row: AbstractCredential) -> list[str]:
    """Name a credential as it is now: each setting of its secret encrypts it anew."""
    secret = hashlib.sha256(bytes(row.secret_ciphertext)).hexdigest()
    return [row.kind, row.host, row.username, row.known_hosts, secret]


def on_given_changed(sender: Any, **kwargs: Any) -> None:
    """Whoever confirms after the change confirms what was started with it."""
    after_commit(refresh_pass)


#: Of a lease, all that is compared: every second, for every plan that waits.
_COMPARED = (
    "phase",
    "environment_digest",
    "task__workspace__project",
    "slot__pod__agent_id",
    "slot__pod__pool",
)


def refresh_pass() -> int:
    """Have holds started again whose credentials or variables are not those of now.

    A hold with older ones could not take the state's lock (`pods_app.state_access`); started
    again before, it costs the confirmation nothing. A constant number of queries.

    Returns:
        How many agents' jobs were outdated.
    """
    leases = list(
        Lease.objects.filter(state=LeaseState.LIVE, phase__in=RESERVING)
        .exclude(environment_digest="")
        .select_related("task__workspace", "slot__pod")
        .only(*_COMPARED)
    )
    if not leases:
        return 0
    present = _present(leases)
    return sum(
        outdate(lease, present[lease.pk])
        for lease in leases
        if lease.environment_digest != present[lease.pk]
    )


def _present(leases: Collection[Lease]) -> dict[UUID, str]:
    versions = given_versions([lease.task for lease in leases])
    of_project = credentials_of({lease.task.workspace.project_id for lease in leases})
    pools = Pool.objects.in_bulk({lease.slot.pod.pool_id for lease in leases})
    of_pool: dict[UUID, list[PoolCredential]] = {pool_id: [] for pool_id in pools}
    for row in PoolCredential.objects.filter(pool__in=pools):
        of_pool[row.pool_id].append(row)
    return {
        lease.pk: environment_digest(
            pools[lease.slot.pod.pool_id],
            versions[lease.task_id],
            [*of_pool[lease.slot.pod.pool_id], *of_project[lease.task.workspace.project_id]],
        )
        for lease in leases
    }
