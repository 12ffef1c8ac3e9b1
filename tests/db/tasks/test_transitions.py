import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import IllegalTransition
from tasks_app.models import Event, Task
from tasks_app.states import FINAL, TRANSITIONS, WAITING, Status
from tasks_app.transitions import transition
from tests.support.factories import make_task

pytestmark = pytest.mark.django_db

PAIRS = [(source, target) for source in Status for target in Status]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda s: str(s))
def test_every_pair_of_states(source, target):
    task = make_task()
    Task.objects.filter(pk=task.pk).update(status=source)
    before = Event.objects.count()
    actor = Actor.system("test")
    if target in TRANSITIONS[source]:
        transition(task, target, actor=actor, cause="because")
        event = Event.objects.filter(task=task, kind=f"task.{target}").latest("id")
        assert (event.from_status, event.to_status) == (source, target)
        assert (event.actor, event.cause) == ("system:test", "because")
        assert task.status == target
        assert (task.finished_at is not None) == (target in FINAL)
        assert bool(task.waiting_reason) == (target in WAITING)
    else:
        with pytest.raises(IllegalTransition) as refusal:
            transition(task, target, actor=actor, cause="because")
        assert refusal.value.extra["current"] == source
        assert refusal.value.extra["allowed"] == sorted(TRANSITIONS[source])
        assert Event.objects.count() == before
        task.refresh_from_db()
        assert task.status == source


def test_sources_narrow_what_is_legal():
    task = make_task()
    with pytest.raises(IllegalTransition):
        transition(
            task,
            Status.CANCELLED,
            actor=Actor.system("test"),
            cause="",
            sources=[Status.PLANNING],
        )


def test_the_table_has_the_names_of_the_design(django_db_blocker):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'workspace_tasks'"
        )
        indexes = {name: definition.partition(" USING ")[2] for name, definition in cursor}
        cursor.execute(
            "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_name = 'workspace_tasks'"
        )
        columns = {name: facts for name, *facts in cursor}
    assert indexes["idx_workspace_tasks_plan_hash"] == "btree (plan_hash)"
    assert indexes["idx_workspace_tasks_warmup_agent"] == "btree (warmup_agent_id, warmup_status)"
    assert indexes["idx_workspace_tasks_apply_pending_warmup"] == (
        "btree (status, warmup_status, warmup_expires_at)"
        " WHERE ((status)::text = 'apply_pending'::text)"
    )
    text, moment = "character varying", "timestamp with time zone"
    assert columns["plan_hash"] == [text, 64, "YES", None]
    assert columns["warmup_agent_id"] == [text, 50, "YES", None]
    assert columns["warmup_status"] == [text, 20, "NO", "'none'::character varying"]
    assert columns["warmup_at"] == [moment, None, "YES", None]
    assert columns["warmup_expires_at"] == [moment, None, "YES", None]
    assert columns["warmup_retry_count"] == ["smallint", None, "NO", "0"]
