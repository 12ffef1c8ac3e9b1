"""Everything that locks, at once and for a while."""

import pytest
from django.db import connection

from pods_app import leases, outcomes, queue
from pods_app.models import Lease, ManagedPod
from pods_app.registration import report_leases
from pods_app.services import drain_pod, lose_pod, undrain_pod
from pods_app.wishes import wishes
from pods_app.work_directories import Reported, cleanup, report_directories
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError
from tasks_app.models import Task
from tasks_app.services.tasks import cancel_task, confirm_task
from tasks_app.states import Status, TaskType
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    finish_planning,
    hear_from,
    make_pod,
    make_task,
    make_workspace,
)
from tests.support.freezes import set_frozen
from tests.support.pod_invariants import consistent
from tests.support.racing import no_surprise, race

pytestmark = pytest.mark.django_db(transaction=True)
SYSTEM = Actor.system("test")


def test_no_deadlock_under_mixed_load(admin, pool):
    """PostgreSQL counts the deadlocks."""
    pods = [make_pod(pool) for _ in range(3)]
    workspaces = [make_workspace() for _ in range(6)]

    def deadlocks():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
            return cursor.fetchone()[0]

    def newest(status):
        return list(Task.objects.filter(status=status).values_list("pk", flat=True)[:8])

    def people():
        for workspace in workspaces:
            make_task(workspace, actor=admin)
            make_task(workspace, actor=admin, type=TaskType.PLAN)
        for pk in newest(Status.APPLY_PENDING):
            attempt(lambda pk=pk: confirm_task(actor=admin, task_id=pk, plan_hash=PLAN_HASH))
        for pk in newest(Status.PENDING)[:3]:
            attempt(lambda pk=pk: cancel_task(actor=admin, task_id=pk))

    def agents():
        for wish in [wish for pod in pods for wish in wishes(pod)]:
            lease = wish.lease
            if wish.directive == "end":
                attempt(
                    lambda lease=lease: outcomes.end_reported(
                        lease_id=lease.pk, epoch=lease.epoch, pod=lease.slot.pod
                    )
                )
            elif wish.directive == "plan":
                attempt(lambda lease=lease: finish_planning(lease.task))
            elif wish.directive == "apply":
                attempt(lambda lease=lease: ask_permit(lease))
                attempt(
                    lambda lease=lease: outcomes.finish_apply(
                        lease_id=lease.pk,
                        epoch=lease.epoch,
                        pod=lease.slot.pod,
                        report=outcomes.Report("applied"),
                    )
                )

    def beats():
        for pod in ManagedPod.objects.all():
            hear_from(pod)
            named = leases.unended().filter(slot__pod=pod)
            report_leases(pod, named.values_list("pk", flat=True))
            tasks = Task.objects.filter(leases__slot__pod=pod).distinct()[:20]
            report_directories(
                pod, "/base", [Reported(t.workspace_id, t.pk, 1, 0.0, False) for t in tasks], []
            )

    def operators():
        pod = pods[0]
        drain_pod(actor=admin, pod_id=pod.pk, reason="test")
        set_frozen(pool, True)
        lose_pod(pods[1].pk, actor=SYSTEM, cause="test")
        set_frozen(pool, False)
        undrain_pod(actor=admin, pod_id=pod.pk)

    def attempt(call):
        try:
            call()
        except (SlipwayError, Lease.DoesNotExist):
            pass  # somebody was faster: refused by name, or the lease was over already

    def often(call):
        def calls():
            for _ in range(3):
                call()

        return calls

    before = deadlocks()
    for _ in range(2):
        parties = [
            *[people, agents, queue.dispatch_pass] * 2,
            *[beats, operators, cleanup],
            lambda: outcomes.return_lost_work(actor=SYSTEM),
        ]
        no_surprise(race([often(party) for party in parties]))
    connection.close()
    assert deadlocks() == before
    consistent()
    for _ in range(4):  # and everything still works
        people()
        queue.dispatch_pass()
        agents()
    assert Task.objects.filter(status=Status.APPLIED).exists()
