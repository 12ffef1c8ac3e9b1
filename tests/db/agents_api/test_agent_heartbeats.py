import uuid
from datetime import timedelta

import pytest

from pods_app.incarnation import begin_incarnation, installation
from pods_app.leases import end
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.services import drain_pod, lose_pod
from pods_app.states import DirectoryState, PodPhase
from tasks_app.actors import Actor
from tasks_app.ids import uuid7
from tasks_app.models import Event
from tasks_app.models.base import ClockTimestamp
from tests.support.agents_api import heartbeat_request
from tests.support.factories import ask_permit, make_waiting_task


def lease_report(lease, **changes):
    return {
        "lease_id": str(lease.pk),
        "epoch": lease.epoch,
        "activity": "planning",
        "process_alive": True,
        **changes,
    }


def directory(task_id, workspace_id, **changes):
    return {
        "workspace_id": str(workspace_id),
        "task_id": str(task_id),
        "bytes": 7,
        "last_used_seconds_ago": 1.0,
        **changes,
    }


def test_a_heartbeat_is_stored_in_database_time(agent):
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - timedelta(days=1))
    reply = agent.heartbeat(
        providers=["registry.terraform.io/hashicorp/time 0.14.2"],
        engines=[{"engine": "tofu", "version": "1.10.0"}],
    )
    pod = ManagedPod.objects.annotate(now=ClockTimestamp()).get()
    assert reply.json == {"draining": False, "delete_directories": [], "agent_token": None}
    assert pod.now - pod.last_heartbeat < timedelta(minutes=1)
    assert pod.engines == [{"engine": "tofu", "version": "1.10.0"}]
    assert pod.providers == ["registry.terraform.io/hashicorp/time 0.14.2"]
    assert (pod.disk_total_bytes, pod.disk_free_bytes) == (1000, 400)


def test_a_lost_agent_that_is_heard_again_is_online(agent, admin):
    lose_pod(agent.pod.pk, actor=admin, cause="test")
    assert agent.pod.phase == PodPhase.LOST
    assert agent.heartbeat().status == 200
    assert agent.pod.phase == PodPhase.ONLINE
    assert Event.objects.filter(kind="pod.returned").count() == 1


def test_draining_goes_both_ways(agent, admin):
    drain_pod(actor=admin, pod_id=agent.pod.pk, reason="test")
    assert agent.heartbeat().json["draining"] is True


def test_an_agent_that_ends_gets_no_new_work(agent):
    assert agent.heartbeat(draining=True).json["draining"] is True
    assert (agent.pod.ending, agent.pod.draining) == (True, False)


def test_a_named_lease_is_noted(agent, planning):
    agent.heartbeat(leases=[lease_report(agent.lease)])
    assert agent.lease.reported_at is not None


def test_a_lease_that_is_named_no_more_is_lost_after_a_while(agent, planning):
    agent.work()
    agent.heartbeat(leases=[lease_report(agent.lease)])
    agent.heartbeat()
    assert agent.lease.state == "live", "one heartbeat may have crossed the work's reply"
    Lease.objects.update(reported_at=ClockTimestamp() - timedelta(minutes=1))
    lost = agent.lease
    agent.heartbeat()
    lost.refresh_from_db()
    assert lost.state == "ended"


def test_directories_are_rows_and_deletions_are_asked_for(agent, planning):
    report = directory(planning.pk, planning.workspace_id)
    agent.heartbeat(directories=[report])
    row = WorkDirectory.objects.get()
    assert (row.task_id, row.bytes, row.state) == (planning.pk, 7, DirectoryState.KEPT)
    assert row.path.endswith(f"/workspaces/{planning.workspace_id}/{planning.pk}")
    WorkDirectory.objects.update(state=DirectoryState.DELETING)
    reply = agent.heartbeat(directories=[report])
    assert reply.json["delete_directories"] == [], "its task has a lease: it may be in use"
    end(agent.lease, actor=Actor.system("test"), reason="over")
    reply = agent.heartbeat(directories=[report])
    assert reply.json["delete_directories"] == [str(planning.pk)]
    reply = agent.heartbeat(deleted_directories=[str(planning.pk)])
    row.refresh_from_db()
    assert (reply.json["delete_directories"], row.state) == ([], DirectoryState.DELETED)


def test_a_directory_without_a_task_is_deleted_when_it_is_old(agent):
    orphan, fresh = uuid7(), uuid7()
    reply = agent.heartbeat(
        directories=[
            directory(orphan, uuid7(), last_used_seconds_ago=86400.0),
            directory(fresh, uuid7()),
        ]
    )
    assert reply.json["delete_directories"] == [str(orphan)]


@pytest.mark.parametrize("where", ["newest_lease", "leases"])
def test_a_lease_this_database_does_not_know_puts_it_in_doubt(agent, planning, where):
    unknown = uuid7()
    news = {
        "newest_lease": {"newest_lease": str(unknown)},
        "leases": {"leases": [{**lease_report(agent.lease), "lease_id": str(unknown)}]},
    }[where]
    orphan = directory(uuid7(), uuid7(), last_used_seconds_ago=86400.0)
    incarnation = str(installation().incarnation)
    reply = agent.heartbeat(incarnation=incarnation, directories=[orphan], **news)
    assert installation().doubt
    assert reply.json["delete_directories"] == [], "what it does not know may be newer than itself"
    assert agent.heartbeat(directories=[orphan]).json["delete_directories"] == []


@pytest.mark.parametrize("where", ["newest_permit", "leases"])
def test_a_permit_this_database_does_not_know_puts_it_in_doubt(agent, planning, where):
    """The copy knows the lease, and not that its apply was permitted since."""
    agent.finish_plan()
    news = {
        "newest_permit": {"newest_permit": str(agent.lease.pk)},
        "leases": {"leases": [{**lease_report(agent.lease), "permitted": True}]},
    }[where]
    agent.heartbeat(
        incarnation=str(installation().incarnation), newest_lease=str(agent.lease.pk), **news
    )
    assert installation().doubt


def test_a_former_incarnation_raises_no_doubt(agent):
    former = str(installation().incarnation)
    begin_incarnation(actor=Actor.system("test"))
    agent.heartbeat(incarnation=former, newest_lease=str(uuid7()))
    assert not installation().doubt


def test_an_incarnation_that_the_database_never_heard_of_does(agent):
    """The copy that was restored is older than the last begin_incarnation."""
    unheard = str(uuid.uuid4())
    agent.heartbeat(incarnation=unheard, newest_lease=str(uuid7()))
    assert installation().doubt
    begin_incarnation(actor=Actor.system("test"))
    agent.heartbeat(incarnation=unheard, newest_lease=str(uuid7()))
    assert not installation().doubt, "it ends for agents that have not heard of the new one yet"


def test_an_unknown_apply_that_is_named_is_applying_again(agent, admin):
    from tasks_app.services.tasks import confirm_task

    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=task.plan_hash)
    lease = agent.lease
    ask_permit(lease)
    lose_pod(agent.pod.pk, actor=admin, cause="test")
    task.refresh_from_db()
    assert task.status == "apply_unknown"
    agent.heartbeat(leases=[lease_report(lease, activity="applying")])
    task.refresh_from_db()
    assert task.status == "applying"


def test_a_malformed_heartbeat_is_400(agent):
    body = heartbeat_request(disk_free_bytes="much")
    reply = agent.send("POST", "heartbeat", body=body)
    assert (reply.status, reply.json["field"]) == (400, "disk_free_bytes")
