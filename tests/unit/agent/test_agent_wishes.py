"""What the threads of an agent tell the thread of a lease."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from agents_app.agent.wishes import Wishes
from agents_app.schema import Assignment, Directive
from tests.support.agent_fakes import make_job


def test_a_wish_that_is_repeated_does_not_put_off_the_look_at_what_lies_ready() -> None:
    """Each poll repeats it, sooner than a directory that lies ready is looked at."""
    lease_id = uuid4()
    wishes = Wishes(lease_id, 1)
    wish = Assignment(
        lease_id=lease_id,
        epoch=1,
        task_id=uuid4(),
        workspace_id=uuid4(),
        directive=Directive.HOLD,
        keep_directory=True,
        job=None,
    )
    answers: list[object] = []
    asks = threading.Thread(
        target=lambda: answers.append(wishes.next(lambda phase: False, 0.2)), daemon=True
    )
    asks.start()
    for _ in range(200):
        wishes.assign(wish)
        asks.join(0.05)
        if not asks.is_alive():
            break
    assert answers == [None]


@pytest.mark.parametrize("applies", [True, False])
def test_the_job_of_a_plan_that_was_reported_is_not_that_of_its_hold(applies: bool) -> None:
    """A restarted agent gets the plan's job again while it still reports the plan's end."""
    lease_id = uuid4()
    wishes = Wishes(lease_id, 1)
    job = make_job(apply=applies)
    wishes.assign(
        Assignment(
            lease_id=lease_id,
            epoch=1,
            task_id=job.task_id,
            workspace_id=job.workspace_id,
            directive=Directive.HOLD if applies else Directive.PLAN,
            keep_directory=True,
            job=job,
        )
    )
    wishes.hold()
    expected = (Directive.HOLD, job) if applies else None
    assert wishes.next(lambda phase: True, 0.01) == expected
