"""Pools in a cluster: what the decisions say is carried out.

Rows are written before objects are asked for and after they are gone, so that whoever dies in
between leaves what the next pass completes. What must happen once is claimed by a guarded
UPDATE (a launch, a drain) or a unique constraint (a name); deletions carry preconditions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import F

from pods_app.autoscaler.decisions import decide
from pods_app.autoscaler.desired import Scaling
from pods_app.cluster import decisions, facts, names
from pods_app.cluster.builder import Surroundings
from pods_app.cluster.client import Cluster
from pods_app.cluster.connection import cluster, surroundings
from pods_app.cluster.decisions import Act, Decision, Object, Row, Wish
from pods_app.cluster.errors import Changed, ClusterError, NameTaken, Unreachable
from pods_app.cluster.hosting import create_once, manifest_of, note
from pods_app.cluster.overlap import Work, carry_out
from pods_app.models import ManagedPod, Pool
from pods_app.notify import notify_controller
from pods_app.reconcile import RECONCILE, Change
from pods_app.registration import add_slots
from pods_app.services import (
    begin_return,
    drain_if_free,
    drain_pod,
    end_return,
    pod_is_gone,
)
from pods_app.states import ENDED_THERE, PodPhase, PoolKind
from tasks_app.exceptions import Conflict, InvalidInput, SlipwayError
from tasks_app.models.base import ClockTimestamp
from tasks_app.transitions import record

log = logging.getLogger(__name__)


def reconcile_cluster(pools: Iterable[Pool], *, dry_run: bool = False) -> list[Change]:
    """Bring pods and objects of pools in line, with one look at the cluster for all of them.

    Two callers at once do no harm.

    Returns:
        What was changed, or would be.

    Raises:
        ClusterError: the cluster gave no answer. Nothing was concluded from that; each pool
            says so.
    """
    pools, changes = list(pools), []
    if not pools:
        return []
    # Read before the cluster is: another pass may make a pod at any moment, and one that these rows
    # do not know is adopted at worst. One that the list did not have yet would be given up.
    rows = {pool.pk: facts.rows_of(pool) for pool in pools}
    try:
        api, around = cluster(), surroundings()
        pods, _ = api.list_pods("")
    except ClusterError as error:
        for pool in pools:
            _tell(pool, error.detail, dry_run)
        raise
    _read_frozen(pools)
    wanted = decide(pools, dry_run=dry_run)
    for pool in pools:
        changes += _Round(pool, wanted.get(pool.pk), api, around, dry_run).run(rows[pool.pk], pods)
    return changes


def _read_frozen(pools: Iterable[Pool]) -> None:
    """Read which pools are frozen after the cluster was: what a freeze has deleted is not there."""
    ids = [pool.pk for pool in pools]
    frozen = set(Pool.objects.filter(pk__in=ids, frozen=True).values_list("pk", flat=True))
    for pool in pools:
        pool.frozen = pool.pk in frozen


class _Round:
    """One reconciliation of one pool."""

    def __init__(
        self,
        pool: Pool,
        scaling: Scaling | None,
        api: Cluster,
        around: Surroundings,
        dry_run: bool,
    ) -> None:
        self._pool, self._api, self._around, self._dry_run = pool, api, around, dry_run
        self._scaling = scaling if pool.kind == PoolKind.KUBERNETES else None
        self._trouble = ""
        # Those that ask the cluster are generators, so that their requests overlap.
        self._acts: dict[Act, Callable[[Decision], Work | None]] = {
            Act.ENTER: self._enter,
            Act.MAKE: self._make,
            Act.NOTE: self._note,
            Act.ADOPT: self._adopt,
            Act.GONE: self._gone,
            Act.CLEAN: self._clean,
            Act.DELETE: self._delete,
            Act.RETIRE: self._retire,
            Act.DRAIN: self._drain,
            Act.UNDRAIN: self._undrain,
            Act.MARK: self._mark,
            Act.EXPLAIN: self._explain,
            Act.WAIT: self._wait,
        }

    def run(self, rows: list[Row], pods: list[dict[str, Any]]) -> list[Change]:
        objects = facts.objects_of(self._pool, pods, self._around.owner, self._api)
        found = decisions.decide(
            self._pool.name, self._wish(), rows, facts.over(rows, objects), objects
        )
        if not self._dry_run:
            carry_out(self._act(decision) for decision in found)
        _tell(self._pool, self._trouble, self._dry_run)
        return [Change(self._pool.name, one.name, one.act, one.reason) for one in found]

    def _wish(self) -> Wish:
        digest = ""
        try:
            sample = manifest_of(self._pool, self._around, name="", row_id="")
            digest = sample["metadata"]["annotations"][names.TEMPLATE]
        except InvalidInput as error:
            self._trouble = error.detail
        scaled = self._scaling is not None
        return Wish(
            pods=self._scaling.desired if self._scaling else 0,
            template=digest,
            frozen=self._pool.frozen,
            delay_seconds=self._pool.scale_down_delay_seconds if scaled else 0,
            pause=facts.pause_of(self._pool),
        )

    def _act(self, decision: Decision) -> Work:
        try:
            work = self._acts.get(decision.act, _leave)(decision)
            if work is not None:
                yield from work
        except Unreachable as error:
            _tell(self._pool, error.detail, self._dry_run)
            raise
        except (Changed, Conflict):
            log.info("pod %s has changed; the next pass reads it again", decision.name)
        except (ClusterError, InvalidInput) as error:
            self._trouble = self._trouble or error.detail
            if decision.row is not None:
                _write_reason(decision.row, error)

    # --- what is done ---------------------------------------------------------------------

    def _enter(self, decision: Decision) -> Work:
        pod = ManagedPod(
            pool=self._pool,
            pod_name=decision.name,
            kind=PoolKind.KUBERNETES,
            slot_limit=self._pool.slots_per_pod,
        )
        try:
            with transaction.atomic():
                pod.save(force_insert=True)
                add_slots(pod, self._pool.slots_per_pod)
        except IntegrityError:
            return  # somebody else entered it at this moment
        yield from self._launch(pod)

    def _make(self, decision: Decision) -> Work:
        return self._launch(_pod(decision))

    def _launch(self, pod: ManagedPod) -> Work:
        """Ask the cluster for the pod; of many callers one does."""
        claimed = (
            ManagedPod.objects.filter(
                pk=pod.pk, last_launch_at=pod.last_launch_at, failed_launches=pod.failed_launches
            )
            .exclude(phase=PodPhase.GONE)
            .update(last_launch_at=ClockTimestamp(), failed_launches=F("failed_launches") + 1)
        )
        if not claimed:
            return
        manifest = manifest_of(self._pool, self._around, name=pod.pod_name, row_id=str(pod.pk))
        try:
            made = yield partial(create_once, self._api, manifest, str(pod.pk))
        except NameTaken as error:
            pod_is_gone(pod.pk, actor=RECONCILE, cause=error.detail)
            return
        except (ClusterError, InvalidInput) as error:
            _write_reason(pod, error)
            raise
        note(pod, made)
        record(
            "pod.started",
            actor=RECONCILE,
            data={"pod": pod.pod_name, "pool": self._pool.name, "uid": pod.pod_uid},
        )

    def _note(self, decision: Decision) -> Work:
        pod = _pod(decision)
        found = yield partial(self._api.get_pod, pod.pod_name)
        if found is not None and found["metadata"]["uid"] == _object(decision).uid:
            note(pod, found)

    def _adopt(self, decision: Decision) -> Work:
        """Enter an object whose row was lost, as after a restore; its agent registers again."""
        found = _object(decision)
        pod = ManagedPod(
            pool=self._pool,
            pod_name=found.name,
            pod_uid=found.uid,
            kind=PoolKind.KUBERNETES,
            host=found.diagnosis.node,
            template_digest=found.template,
            slot_limit=self._pool.slots_per_pod,
        )
        try:
            with transaction.atomic():
                pod.save(force_insert=True)
                ManagedPod.objects.filter(pk=pod.pk).update(last_launch_at=ClockTimestamp())
                add_slots(pod, self._pool.slots_per_pod)
                record("pod.adopted", actor=RECONCILE, data={"pod": found.name, "uid": found.uid})
        except IntegrityError:
            return
        # From now on its annotation leads to the row.
        labels, annotations = names.busy_marks(found.busy)
        yield partial(
            self._api.mark_pod,
            found.name,
            uid=found.uid,
            labels=labels,
            annotations={**annotations, names.ROW: str(pod.pk)},
        )

    def _gone(self, decision: Decision) -> None:
        if pod_is_gone(_row(decision).id, actor=RECONCILE, cause=decision.reason[:250]):
            notify_controller()

    def _clean(self, decision: Decision) -> Work:
        found = _object(decision)
        yield partial(
            self._api.delete_pod, found.name, uid=found.uid, resource_version=found.version
        )

    def _delete(self, decision: Decision) -> Work:
        """Remove it at once; the next pass finds it gone, and its work is returned then."""
        found = _object(decision)
        yield partial(self._api.delete_pod, found.name, uid=found.uid, grace=0)
        notify_controller()

    def _retire(self, decision: Decision) -> Work | None:
        row = _row(decision)
        if not drain_if_free(row.id, actor=RECONCILE, reason=decision.reason):
            return None
        if decision.object is None:
            pod_is_gone(row.id, actor=RECONCILE, cause=decision.reason)
            return None
        return self._clean(decision)

    def _drain(self, decision: Decision) -> None:
        drain_pod(actor=RECONCILE, pod_id=_row(decision).id, reason=decision.reason)

    def _undrain(self, decision: Decision) -> Work:
        """Bring back a pod that was too many, unless another pass ends it at this moment.

        That pass has drained it and may be about to delete the object it has seen: once the
        object has changed, the cluster refuses that, and another drain undoes the return.
        """
        row, found = _row(decision), _object(decision)
        if not begin_return(row.id):
            return
        mark = {names.RETURN: uuid4().hex}
        marked = yield partial(
            self._api.mark_pod, found.name, uid=found.uid, labels={}, annotations=mark
        )
        if marked is not None and "deletionTimestamp" not in marked["metadata"]:
            end_return(row.id, actor=RECONCILE)
        elif marked is not None:
            drain_pod(actor=RECONCILE, pod_id=row.id, reason=ENDED_THERE)

    def _mark(self, decision: Decision) -> Work:
        labels, annotations = names.busy_marks(_row(decision).occupied > 0)
        found = _object(decision)
        yield partial(
            self._api.mark_pod, found.name, uid=found.uid, labels=labels, annotations=annotations
        )

    def _explain(self, decision: Decision) -> None:
        row = _row(decision)
        node = decision.object.diagnosis.node if decision.object else row.node
        told: dict[str, Any] = {"phase_reason": decision.reason, "host": node}
        if node and not row.node:
            told["last_launch_at"] = ClockTimestamp()  # only from now on can it start
        ManagedPod.objects.filter(pk=row.id, phase_reason=row.reason).exclude(
            phase=PodPhase.GONE
        ).update(**told)

    def _wait(self, decision: Decision) -> None:
        self._trouble = self._trouble or decision.reason


def _leave(decision: Decision) -> None:
    """Somebody else's pod is never touched."""


def _pod(decision: Decision) -> ManagedPod:
    return ManagedPod.objects.select_related("pool").get(pk=_row(decision).id)


def _row(decision: Decision) -> Row:
    assert decision.row is not None, f"{decision.act} is about a row"
    return decision.row


def _object(decision: Decision) -> Object:
    assert decision.object is not None, f"{decision.act} is about an object"
    return decision.object


def _write_reason(row: Row | ManagedPod, error: SlipwayError) -> None:
    pod_id = row.id if isinstance(row, Row) else row.pk
    reason = error.detail[:500]
    ManagedPod.objects.filter(pk=pod_id, draining=False).exclude(phase=PodPhase.GONE).update(
        phase_reason=reason
    )


def _tell(pool: Pool, trouble: str, dry_run: bool) -> None:
    """Say on the pool what hinders it, or that nothing does any more."""
    trouble = trouble[:500]
    if not dry_run:
        Pool.objects.filter(pk=pool.pk).exclude(trouble=trouble).update(trouble=trouble)
