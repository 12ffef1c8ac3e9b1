"""What the server wishes of one lease, and what the lease does, shared between threads.

Wishes are level-triggered: the newest counts, not how it came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from agents_app.schema import Activity, Assignment, Directive, Job, KnownAssignment, Phase

log = logging.getLogger("agent.lease")

_LEFTOVER_PAUSE = 0.5
_RUNS = {Directive.PLAN, Directive.APPLY, Directive.CANCEL, Directive.KILL}
WARMS = {Directive.WARMUP, Directive.HOLD}
#: What may be let go at any time.
_IDLE = {Activity.STARTING, Activity.WARMING, Activity.HOLDING, Activity.HELD}


class Wishes:
    """Poll and signals write, the lease's own thread reads; all methods are safe for threads."""

    def __init__(self, lease_id: UUID, epoch: int) -> None:
        self._lease_id, self._epoch = lease_id, epoch
        self._changed = threading.Condition()
        self._wish: Directive | None = None
        self._known: Directive | None = None
        self._digest = ""  # of the environment of the newest job
        self._job: Job | None = None  # to be taken up
        self._given: Job | None = None  # the newest, taken up or not
        self._keep = True
        self._named = True
        self._received = time.monotonic()
        self._letting_go = ""
        self._activity = Activity.STARTING

    # --- what poll and signals say and ask ------------------------------------------------

    def assign(self, assignment: Assignment) -> None:
        """Take over what the server wants now."""
        with self._changed:
            news = self._known != assignment.directive
            taken_up = self._wish == Directive.APPLY
            if news:
                self._received = time.monotonic()
                log.info("lease %s: %s", self._lease_id, assignment.directive)
            self._wish = self._known = assignment.directive
            if assignment.directive == Directive.HOLD and self._activity == Activity.STARTING:
                self._activity = Activity.HOLDING  # of a lease whose disk is lost
            self._keep = assignment.keep_directory
            self._named = True
            if assignment.job is not None:
                self._job = self._given = assignment.job
                self._digest = assignment.job.environment_digest
            elif news and assignment.directive == Directive.APPLY:
                if self._given is None or self._given.plan is None:
                    self._known = None  # asked for again, it comes with its job
                elif not taken_up:
                    self._job = self._given  # the hold's
            self._changed.notify_all()

    def confirmed(self) -> None:
        """Take up the apply of what lies ready before the server says the wish for it.

        What is known stays the former wish, so that the next poll still gets this one.
        """
        with self._changed:
            if self._known in WARMS and self._given is not None and self._given.plan is not None:
                self._received = time.monotonic()
                log.info("lease %s: confirmed", self._lease_id)
                self._wish, self._job = Directive.APPLY, self._given
                self._changed.notify_all()

    def unlisted(self) -> None:
        """The server does not name this lease any more."""
        with self._changed:
            self._known = None  # if it is named again, its job comes along
            self._named = False
            self._changed.notify_all()

    def let_go(self, why: str) -> bool:
        """Wish for the lease's end, whatever the server wishes; False if that was so before."""
        with self._changed:
            if self._letting_go:
                return False
            self._letting_go = why
            self._changed.notify_all()
        return True

    def known(self) -> KnownAssignment | None:
        """Return the newest wish that the server said, None if there is none."""
        with self._changed:
            if self._known is None:
                return None
            return KnownAssignment(
                lease_id=self._lease_id,
                epoch=self._epoch,
                directive=self._known,
                environment_digest=self._digest,
            )

    @property
    def activity(self) -> Activity:
        """What the lease does."""
        with self._changed:
            return self._activity

    @property
    def idle(self) -> bool:
        """Whether nothing runs that has a result, and nothing is to be reported."""
        return self.activity in _IDLE

    # --- the lease's own thread -----------------------------------------------------------

    @property
    def letting_go(self) -> str:
        """Why the lease is let go, "" if it is not."""
        with self._changed:
            return self._letting_go

    @property
    def keep(self) -> bool:
        """Whether the directory stays when the lease ends."""
        with self._changed:
            return self._keep

    @property
    def received(self) -> float:
        """When the newest directive came, monotonic."""
        with self._changed:
            return self._received

    def now(self, activity: Activity) -> None:
        """Say what the lease does from now on."""
        with self._changed:
            self._activity = activity

    def hold(self) -> None:
        """The plan is reported, and only waits from now on."""
        with self._changed:
            if self._job is None or self._job.plan is None:
                # The job of the hold, or of an apply that is wanted already, comes as news; one
                # that is here may be that of the plan, which a restarted agent gets again.
                self._known, self._digest = Directive.HOLD, ""
                self._job = self._given = None
            if self._wish == Directive.PLAN:
                self._wish = Directive.HOLD
            self._activity = Activity.HOLDING
            self._changed.notify_all()

    def next(
        self, began: Callable[[Phase], bool], seconds: float | None
    ) -> tuple[Directive, Job | None] | None:
        """Wait for something to do, for so many seconds or for ever.

        Args:
            began: whether a phase began before: nothing begins twice under one lease.

        Returns:
            The directive with its job, ``end`` without one; None when the seconds are over.
        """
        # What the server says again and again must not put off the end of the wait.
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while True:
                if self._letting_go or self._wish == Directive.END:
                    return Directive.END, None
                job, self._job = self._job, None
                if job is not None and self._wish in WARMS:
                    return self._wish, job
                if job is not None and self._wish in _RUNS and not began(phase_of(job)):
                    return self._wish, job
                if not self._changed.wait(until and until - time.monotonic()):
                    return None

    def job_of_running(self, alive: Callable[[], bool]) -> tuple[Job | None, bool]:
        """Wait until the server names a lease again that a former agent process ran.

        What has no permit ends with the wish for it. A permitted apply goes on, named or not.

        Returns:
            The job, None if nothing is to be reported; and whether the run ended unnamed, so
            that nobody takes its result.
        """
        with self._changed:
            while self._job is None and not self._letting_go:
                waited_for = self._named and self._wish != Directive.END
                self._changed.wait(None if waited_for else _LEFTOVER_PAUSE)
                if not waited_for and not alive():
                    return None, True
            job, self._job = self._job, None
            return (None if self._letting_go else job), False


def phase_of(job: Job) -> Phase:
    """Return the phase a job to run is of."""
    return Phase.APPLY if job.plan else Phase.PLAN
