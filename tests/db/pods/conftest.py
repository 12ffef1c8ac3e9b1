"""Who acts, a pool, and plans that wait, for tests of their warm-ups."""

import pytest

from pods_app.warmups import warm_pass
from tasks_app.actors import Actor
from tasks_app.models import Task
from tests.support.factories import make_admin, make_pod, make_pool, make_waiting_task
from tests.support.warmups import let_go


@pytest.fixture
def admin():
    return Actor.person(make_admin())


@pytest.fixture
def pool():
    return make_pool(name="main")


@pytest.fixture
def waiting(pool):
    """A plan that waits, cold: the agent that made it gave its slot back."""
    make_pod(pool)
    task = make_waiting_task()
    let_go(task)
    Task.objects.filter(pk=task.pk).update(warmup_retry_at=None)
    return task


@pytest.fixture
def warming(waiting):
    assert warm_pass() == 1
    return waiting
