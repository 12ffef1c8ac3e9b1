import uuid

import pytest

from agents_app import tokens
from agents_app.schema import PermitRequest
from agents_app.services.permit import permit
from pods_app.models import ApplyPermit, Installation
from pods_app.services import lose_pod
from tasks_app.models import Event
from tasks_app.services.tasks import confirm_task
from tests.support.racing import race


@pytest.fixture
def confirmed(agent, planning, admin):
    agent.finish_plan()
    confirm_task(actor=admin, task_id=planning.pk, plan_hash="a" * 64)
    planning.refresh_from_db()
    agent.work()
    return planning


def ask(agent, lease=None, key=None, epoch=None, **changes):
    body = {
        "key": str(key or uuid.uuid4()),
        "incarnation": agent.reply["incarnation"],
        "newest_lease": None,
        "plan_hash": "a" * 64,
        "manifest_digest": "b" * 64,
        "path": "kept",
        "environment_digest": (lease or agent.lease).environment_digest,
        **changes,
    }
    query = {} if epoch is None else {"epoch": epoch}
    return agent.call("POST", "permit", lease, body=body, **query)


def test_a_permit_lets_the_apply_go_ahead(agent, confirmed, settings):
    reply = ask(agent)
    assert (reply.status, reply.json) == (
        200,
        {"valid_seconds": settings.SLIPWAY.permit_seconds_kept},
    )
    confirmed.refresh_from_db()
    assert (confirmed.status, confirmed.apply_path) == ("applying", "kept")


def test_a_permit_takes_few_queries(agent, confirmed, django_assert_max_num_queries):
    """A person waits for each of them; BEGIN, COMMIT and a savepoint are among them."""
    agent.work()
    lease = agent.lease
    message = PermitRequest(
        key=uuid.uuid4(),
        incarnation=agent.reply["incarnation"],
        newest_lease=lease.pk,
        plan_hash="a" * 64,
        manifest_digest="b" * 64,
        path="kept",
        environment_digest=lease.environment_digest,
    )
    with django_assert_max_num_queries(20):
        permit(tokens.authenticate(agent.token), lease.pk, lease.epoch, message)


def test_a_newest_lease_that_the_database_does_not_know_is_no_permit(agent, confirmed):
    reply = ask(agent, newest_lease=str(uuid.uuid4()))
    assert (reply.status, reply.problem) == (409, "permit-refused")
    assert "begin_incarnation" in reply.json["detail"]
    assert not ApplyPermit.objects.exists()
    assert Installation.objects.get().doubt


def test_a_permit_that_was_spent_before_a_restore_is_not_granted_again(agent, confirmed):
    lease = str(agent.lease.pk)
    reply = ask(agent, newest_lease=lease, newest_permit=lease)
    assert (reply.status, reply.problem) == (409, "permit-refused")
    assert "begin_incarnation" in reply.json["detail"]
    assert not ApplyPermit.objects.exists()


def test_the_leases_of_a_former_incarnation_prove_nothing(agent, confirmed):
    installation = Installation.objects.get()
    former = str(uuid.uuid4())
    installation.former = [former]
    installation.save()
    reply = ask(agent, newest_lease=str(uuid.uuid4()), incarnation=former)
    assert reply.status == 200


def test_the_reason_of_the_path_is_shown_while_it_applies(agent, confirmed):
    assert ask(agent, path="normal", path_reason="The directory is gone.").status == 200
    confirmed.refresh_from_db()
    assert confirmed.apply_path_reason == "The directory is gone."


def test_a_lost_reply_is_safe_to_repeat_and_another_key_is_refused(agent, confirmed):
    key = uuid.uuid4()
    first, again = ask(agent, key=key), ask(agent, key=key)
    assert (first.status, again.status) == (200, 200)
    assert again.json["valid_seconds"] < first.json["valid_seconds"], "what is left of the time"
    reply = ask(agent)
    assert (reply.status, reply.problem) == (409, "permit-refused")


def test_many_requests_at_once_get_one_permit(agent, confirmed):
    lease = agent.lease
    replies = race([lambda: ask(agent, lease)] * 4)
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    assert Event.objects.filter(kind="task.applying").count() == 1


@pytest.mark.parametrize("changes", [{"plan_hash": "c" * 64}, {"manifest_digest": "c" * 64}])
def test_what_was_not_confirmed_is_refused(agent, confirmed, changes):
    assert ask(agent, **changes).problem == "permit-refused"
    assert not ApplyPermit.objects.exists()


def test_a_stale_epoch_gets_no_permit(agent, confirmed):
    assert ask(agent, epoch=9).problem == "stale-lease"
    assert not ApplyPermit.objects.exists()
    assert Event.objects.filter(kind="agent.stale_write", task=confirmed).exists()


def test_an_agent_that_was_lost_gets_no_permit(agent, confirmed, admin):
    lease = agent.lease
    lose_pod(agent.pod.pk, actor=admin, cause="test")
    assert ask(agent, lease).problem == "stale-lease"
    assert not ApplyPermit.objects.exists()


def test_another_agent_gets_no_permit(agent, confirmed, new_agent):
    assert ask(new_agent("b"), agent.lease).status == 404
    assert not ApplyPermit.objects.exists()


def test_a_restored_database_gives_no_permit(agent, confirmed):
    Installation.objects.update(doubt="restored")
    reply = ask(agent)
    assert (reply.status, reply.json["detail"]) == (409, "restored")


@pytest.mark.parametrize("field", ["key", "path"])
def test_a_malformed_request_names_its_field(agent, confirmed, field):
    reply = ask(agent, **{field: "x"}) if field == "path" else ask(agent, key="x")
    assert (reply.status, reply.json["field"]) == (400, field)
