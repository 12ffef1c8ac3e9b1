"""What operators set about pools."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from pods_app.models import Pool, PoolCredential
from pods_app.room import use_room
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.models import Project
from tasks_app.permissions import Action, require
from tasks_app.signals import given_changed
from tasks_app.transitions import record

#: What decides how a pod in a cluster looks.
_MAKES_PODS = {"name", "kind", "pod_template", "slots_per_pod"}
_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
#: What stands before the host in a proxy's address.
_USER = re.compile(r"//[^/@]*@")


def create_pool(
    *, actor: Actor, name: str, projects: Iterable[Project] = (), **fields: Any
) -> Pool:
    """Create a pool.

    Raises:
        NotPermitted, InvalidInput; Conflict: the name is taken.
    """
    require(actor, Action.OPERATE, None)
    return _saved(Pool(name=name), actor, "pool.created", fields, list(projects))


def update_pool(
    *, actor: Actor, pool: Pool, projects: Iterable[Project] | None = None, **fields: Any
) -> Pool:
    """Change a pool; making it the default one ends that of the former.

    Raises:
        NotPermitted, InvalidInput; Conflict: the name is taken.
    """
    require(actor, Action.OPERATE, None)
    served = None if projects is None else list(projects)
    return _saved(pool, actor, "pool.changed", fields, served)


def _saved(
    pool: Pool, actor: Actor, kind: str, fields: dict[str, Any], projects: list[Project] | None
) -> Pool:
    _check_proxy(fields.get("proxy", {}))
    was_default = pool.is_default
    for name, value in fields.items():
        setattr(pool, name, value)
    if was_default and not pool.is_default:
        raise InvalidInput("Make another pool the default one instead.", field="is_default")
    try:
        pool.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidInput(" ".join(messages), field=field) from None
    _check_size(pool)
    _check_delay(fields.get("scale_down_delay_seconds", 0))
    if pool.kind == PoolKind.KUBERNETES and _MAKES_PODS & fields.keys():
        # Only where there is a cluster, its client is worth its memory.
        from pods_app.cluster.check import check_pool

        check_pool(pool)
    try:
        with transaction.atomic():
            if pool.is_default and not was_default:
                Pool.objects.filter(is_default=True).update(is_default=False)
            pool.save()
            if projects is not None:
                pool.projects.set(projects)
            record(kind, actor=actor, data={"pool": pool.name, "changed": sorted(fields)})
            given_changed.send(sender=Pool)
            use_room(pool.pk)
    except IntegrityError:
        raise Conflict(f"The name “{pool.name}” is taken; choose another.", field="name") from None
    return pool


def _check_size(pool: Pool) -> None:
    if pool.slots_per_pod < 1:
        raise InvalidInput("A pod has at least 1 slot; give it one.", field="slots_per_pod")
    if pool.min_pods > pool.max_pods:
        raise InvalidInput(
            f"The pool keeps {pool.min_pods} pods and may have {pool.max_pods} at most; raise the "
            "maximum, or lower the minimum.",
            field="max_pods",
        )


def _check_delay(seconds: int) -> None:
    """A warm-up counts as ready for longer than an idle pod stays."""
    warm = settings.SLIPWAY.warmup_seconds
    if seconds >= warm:
        raise InvalidInput(
            f"Choose less than the {warm:g} s for which a warm-up counts as ready "
            "(SLIPWAY_WARMUP_SECONDS).",
            field="scale_down_delay_seconds",
        )


def _check_proxy(proxy: dict[str, Any]) -> None:
    for name, value in proxy.items():
        if name not in _PROXY or not isinstance(value, str):
            raise InvalidInput(f"Use {', '.join(_PROXY)}, each a text.", field="proxy")


def shown_proxy(pool: Pool) -> dict[str, str]:
    """Return the proxy settings without user and password."""
    return {name: _USER.sub("//***@", str(value)) for name, value in pool.proxy.items()}


def delete_pool_credential(*, actor: Actor, credential: PoolCredential) -> None:
    """Remove a credential.

    Raises:
        NotPermitted.
    """
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        record(
            "pool.credential_deleted",
            actor=actor,
            data={"pool": credential.pool.name, "host": credential.host},
        )
        credential.delete()
        given_changed.send(sender=PoolCredential)
