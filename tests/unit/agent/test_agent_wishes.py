"""What the threads of an agent tell the thread of a lease."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest

from agents_app.agent.wishes import Wishes
from agents_app.schema import Assignment, Directive, Job, Phase
from tests.support.agent_fakes import make_job


def wish(lease_id: UUID, directive: Directive, job: Job | None = None) -> Assignment:
    return Assignment(
        lease_id=lease_id,
        epoch=1,
        task_id=job.task_id if job else uuid4(),
        workspace_id=job.workspace_id if job else uuid4(),
        directive=directive,
        keep_directory=True,
        job=job,
    )


def test_a_wish_that_is_repeated_does_not_put_off_the_look_at_what_lies_ready() -> None:
    """Each poll repeats it, sooner than a directory that lies ready is looked at."""
    lease_id = uuid4()
    wishes = Wishes(lease_id, 1)
    answers: list[object] = []
    asks = threading.Thread(
        target=lambda: answers.append(wishes.next(lambda phase: False, 0.2)), daemon=True
    )
    asks.start()
    for _ in range(200):
        wishes.assign(wish(lease_id, Directive.HOLD))
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
    wishes.assign(wish(lease_id, Directive.HOLD if applies else Directive.PLAN, job))
    wishes.hold()
    expected = (Directive.HOLD, job) if applies else None
    assert wishes.next(lambda phase: True, 0.01) == expected


def began_nothing(phase: Phase) -> bool:
    return False


def warmed(directive: Directive) -> tuple[UUID, Job, Wishes]:
    """A lease whose thread has taken up the job of its warm-up or hold."""
    lease_id, job = uuid4(), make_job(apply=True)
    wishes = Wishes(lease_id, 1)
    wishes.assign(wish(lease_id, directive, job))
    assert wishes.next(began_nothing, 0.01) == (directive, job)
    return lease_id, job, wishes


def test_an_apply_without_a_job_has_that_of_its_hold_once() -> None:
    lease_id, job, wishes = warmed(Directive.HOLD)
    for _ in range(2):
        wishes.assign(wish(lease_id, Directive.APPLY))
    assert wishes.next(began_nothing, 0.01) == (Directive.APPLY, job)
    assert wishes.next(began_nothing, 0.01) is None


@pytest.mark.parametrize("planned", [True, False])
def test_an_apply_whose_job_is_not_here_is_asked_for_again(planned: bool) -> None:
    lease_id, job = uuid4(), make_job(apply=False)
    wishes = Wishes(lease_id, 1)
    if planned:
        wishes.assign(wish(lease_id, Directive.PLAN, job))
        wishes.next(began_nothing, 0.01)
    wishes.assign(wish(lease_id, Directive.APPLY))
    assert wishes.known() is None
    assert wishes.next(began_nothing, 0.01) is None


def test_a_confirmed_hold_is_taken_up_before_the_wish_for_its_apply_and_once() -> None:
    lease_id, job, wishes = warmed(Directive.HOLD)
    before = wishes.known()
    wishes.confirmed()
    assert wishes.known() == before, "the next poll still gets the wish"
    assert wishes.next(began_nothing, 0.01) == (Directive.APPLY, job)
    wishes.assign(wish(lease_id, Directive.APPLY))
    assert (known := wishes.known()) and known.directive == Directive.APPLY
    assert wishes.next(began_nothing, 0.01) is None


@pytest.mark.parametrize("directive", [Directive.PLAN, Directive.CANCEL, Directive.HOLD])
def test_what_does_not_lie_ready_is_not_confirmed(directive: Directive) -> None:
    lease_id = uuid4()
    wishes = Wishes(lease_id, 1)
    job = None if directive == Directive.HOLD else make_job(apply=False)
    wishes.assign(wish(lease_id, directive, job))
    if job is not None:
        wishes.next(began_nothing, 0.01)
    wishes.confirmed()
    assert wishes.next(began_nothing, 0.01) is None


def test_a_confirmed_hold_that_is_let_go_meanwhile_ends() -> None:
    _, _, wishes = warmed(Directive.HOLD)
    wishes.confirmed()
    wishes.let_go("the server wants its slot back")
    assert wishes.next(began_nothing, 0.01) == (Directive.END, None)


def test_a_confirmation_that_the_server_lost_keeps_no_later_one_from_the_hold() -> None:
    """As after a failover to a database without it."""
    lease_id, job, wishes = warmed(Directive.WARMUP)
    wishes.confirmed()
    wishes.assign(wish(lease_id, Directive.HOLD))
    assert wishes.next(began_nothing, 0.01) == (Directive.HOLD, job)
    wishes.assign(wish(lease_id, Directive.APPLY))
    assert wishes.next(began_nothing, 0.01) == (Directive.APPLY, job)
