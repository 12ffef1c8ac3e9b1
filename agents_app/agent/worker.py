"""One lease on this agent: plan, report, hold, apply, report, let go.

Other threads only say what is wished; the worker's own thread acts on it. What the server
wishes is level-triggered: the newest wish counts, not how it came.

A run without permit may be stopped at any time. A permitted apply is stopped only by its
task's cancellation: never because the server is away, forgot the lease or wants it back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from agents_app.agent import leftovers
from agents_app.agent.client import Patience, Refused, Server
from agents_app.agent.journal import Event, LeaseJournal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.machine import Machine
from agents_app.agent.permit import PermitDesk
from agents_app.agent.phase import LeaseRuns
from agents_app.agent.report import (
    BEGUN,
    DELIVERED,
    OVER,
    Delivery,
    LeaseGone,
    note_failure,
    undelivered,
)
from agents_app.agent.uploads import Uploader
from agents_app.runner.environment import remove_home
from agents_app.runner.errors import DirectoryInUse
from agents_app.schema import (
    Activity,
    Assignment,
    Directive,
    EndedRequest,
    Job,
    KnownAssignment,
    LeaseReport,
    Outcome,
    Phase,
)

log = logging.getLogger("agent.lease")

#: A run without permit that does not stop after its one interrupt is killed after so many seconds.
STOP_SECONDS = 15.0
_LEFTOVER_PAUSE = 0.5
_REPORT_PAUSE = 10.0

_RUNS = {Directive.PLAN, Directive.APPLY, Directive.CANCEL, Directive.KILL}
LEASE = "lease"


class LeaseWorker:
    """Works for one lease in a thread of its own, until it is over.

    Args:
        journal: with the fact ``lease`` in it; more facts are those of a former agent process.
        over: called when the lease is gone from here for good.
    """

    def __init__(
        self,
        lease_id: UUID,
        journal: LeaseJournal,
        machine: Machine,
        server: Server,
        over: Callable[[LeaseWorker], None],
    ) -> None:
        facts = journal.last(LEASE)
        assert facts is not None, "a lease's journal begins with the lease"
        self.lease_id, self.epoch = lease_id, int(facts["epoch"])
        self.task_id = UUID(facts["task"])
        self.incarnation = UUID(facts["incarnation"])
        self._journal, self._over, self._owners = journal, over, machine.owners
        self._calls = LeaseCalls(server, lease_id, self.epoch)
        self._directory = machine.directory(UUID(facts["workspace"]), self.task_id)
        self._identity = server.identity
        self._permit = PermitDesk(self._calls, journal, server.identity)
        self._runs = LeaseRuns(
            lease_id=lease_id,
            epoch=self.epoch,
            machine=machine,
            calls=self._calls,
            journal=journal,
            directory=self._directory,
            permit=self._permit,
            applying=lambda: self._set_activity(Activity.APPLYING),
        )
        self._changed = threading.Condition()
        self._wish: Directive | None = None
        self._known: Directive | None = None
        self._job: Job | None = None
        self._keep = True
        self._named = True
        self._received = time.monotonic()
        self._letting_go = ""
        self._activity = Activity.STARTING
        self._thread = threading.Thread(target=self._run, name=f"lease {lease_id}", daemon=True)

    def start(self) -> None:
        """Begin; what a former agent process left is taken up first."""
        self._thread.start()

    # --- what other threads say and ask ---------------------------------------------------

    def wish(self, assignment: Assignment) -> None:
        """Take over what the server wants now."""
        with self._changed:
            if self._known != assignment.directive:
                self._received = time.monotonic()
                log.info("lease %s: %s", self.lease_id, assignment.directive)
            self._wish = self._known = assignment.directive
            if assignment.directive == Directive.HOLD and self._activity == Activity.STARTING:
                self._activity = Activity.HOLDING  # of a lease whose disk is lost
            self._keep = assignment.keep_directory
            self._named = True
            self._job = assignment.job or self._job
            self._changed.notify_all()
        if assignment.directive == Directive.CANCEL:
            self._runs.control.interrupt()
        elif assignment.directive == Directive.KILL:
            self._runs.control.kill()
        elif assignment.directive == Directive.END:
            self.let_go("the server wants its slot back")

    def unlisted(self) -> None:
        """The server does not name this lease any more."""
        with self._changed:
            self._known = None  # if it is named again, its job comes along
            self._named = False
            self._changed.notify_all()
        self.let_go("the server does not name this lease any more")

    def let_go(self, why: str) -> None:
        """Stop what has no permit, and give the lease back."""
        if not self._permit.close(why):
            return
        with self._changed:
            if self._letting_go:
                return
            self._letting_go = why
            self._changed.notify_all()
        log.info("lease %s: letting go: %s", self.lease_id, why)
        self._runs.stop()
        killer = threading.Timer(STOP_SECONDS, self._runs.control.kill)
        killer.daemon = True
        killer.start()

    def let_go_if_idle(self, why: str) -> None:
        """Give the lease back unless something runs or is to be reported."""
        with self._changed:
            idle = self._activity in {Activity.STARTING, Activity.HOLDING}
        if idle:
            self.let_go(why)

    def interrupt(self) -> None:
        """Ask the run once to stop after what it is doing."""
        self._runs.control.interrupt()

    def known(self) -> KnownAssignment | None:
        """Return the wish this worker acts upon, None if it has none."""
        with self._changed:
            if self._known is None:
                return None
            return KnownAssignment(lease_id=self.lease_id, epoch=self.epoch, directive=self._known)

    def report(self) -> LeaseReport:
        """Return this lease for a heartbeat."""
        with self._changed:
            activity = self._activity
        return LeaseReport(
            lease_id=self.lease_id,
            epoch=self.epoch,
            activity=activity,
            process_alive=activity in {Activity.PLANNING, Activity.PREPARING, Activity.APPLYING},
            permitted=self._permit.granted,
        )

    @property
    def running(self) -> bool:
        """Whether Terraform runs or is about to."""
        return self.report().process_alive

    # --- the worker's own thread ----------------------------------------------------------

    def _run(self) -> None:
        keep: bool | None
        try:
            keep = self._work()
        except LeaseGone as gone:
            log.warning("lease %s is over: %s", self.lease_id, gone)
            keep = True
        except Exception:
            log.exception("lease %s failed", self.lease_id)
            keep = None if undelivered(self._journal) and not self._letting_go else True
        try:
            if keep is not None:
                self._end(keep)
        except Exception:
            log.exception("lease %s could not be let go", self.lease_id)
        # What is left of it is taken up when the server names the lease again, or at a restart.
        self._directory.release()
        self._journal.close()
        self._over(self)

    def _work(self) -> bool:
        """Do what is wished until nothing more is; returns whether to keep the directory."""
        done = self._take_up()
        while done is None:
            directive, job = self._next_wish()
            if directive == Directive.END:
                return self._keep
            assert job is not None
            done = self._phase(_phase_of(job), job, [])
        return done

    def _take_up(self) -> bool | None:
        """Finish what a former agent process began.

        Returns:
            Whether to keep the directory, if nothing is left to do; else None.
        """
        events = self._journal.since(BEGUN)
        if not events:
            return None
        phase = Phase(events[0]["phase"])
        names = {event["event"] for event in events}
        if DELIVERED in names:
            delivered = self._journal.last(DELIVERED)
            assert delivered is not None
            if phase == Phase.APPLY or delivered["directive"] == Directive.END:
                return self._delivery(phase).request.directory_kept
            self._hold()
            return None
        if OVER in names:
            return self._deliver(self._delivery(phase))
        log.info("lease %s: taking up its %s again", self.lease_id, phase)
        self._set_activity(Activity.APPLYING if self._permit.granted else Activity.PLANNING)
        job = self._job_of_running()
        if job is None:
            return True
        return self._phase(phase, job, events)

    def _job_of_running(self) -> Job | None:
        """Wait until the server names the lease again; None if there is nothing to report.

        What has no permit ends with the wish for it. A permitted apply goes on, named or not;
        if it ends unnamed, nobody takes its result, and it is kept as evidence.
        """
        with self._changed:
            while self._job is None and not self._letting_go:
                waited_for = self._named and self._wish != Directive.END
                self._changed.wait(None if waited_for else _LEFTOVER_PAUSE)
                if not waited_for and not leftovers.alive(self._directory, self._journal):
                    self._keep_evidence()
                    return None
            job, self._job = self._job, None
            return None if self._letting_go else job

    def _keep_evidence(self) -> None:
        try:
            self._directory.acquire()
            where = self._directory.quarantine()
        except (DirectoryInUse, OSError):
            where = self._directory.path
        log.error("lease %s: nobody takes the result of its apply: see %s", self.lease_id, where)

    def _next_wish(self) -> tuple[Directive, Job | None]:
        with self._changed:
            while True:
                if self._letting_go or self._wish == Directive.END:
                    return Directive.END, None
                job, self._job = self._job, None
                if job is not None and self._wish in _RUNS and not self._began(_phase_of(job)):
                    return self._wish, job
                self._changed.wait()

    def _began(self, phase: Phase) -> bool:
        """Return whether a phase began before: nothing begins twice under one lease."""
        events = self._journal.events
        return any(e["event"] == BEGUN and e["phase"] == phase for e in events)

    def _set_activity(self, activity: Activity) -> None:
        with self._changed:
            self._activity = activity

    # --- a phase --------------------------------------------------------------------------

    def _phase(self, phase: Phase, job: Job, events: list[Event]) -> bool | None:
        """Run a phase and report its end; returns as :meth:`_take_up`.

        Args:
            events: what a former agent process noted of it.
        """
        if not events:
            self._owners.claim(self.task_id)
            self._journal.record(BEGUN, phase=phase.value)
            self._set_activity(Activity.PLANNING if phase == Phase.PLAN else Activity.PREPARING)
        uploader = self._uploader(phase)
        try:
            self._runs.run(phase, job, events, uploader, self._received)
        finally:
            uploader.close()
        if self._letting_go:
            # What was stopped has no result; `ended` says all there is.
            return self._keep
        return self._deliver(Delivery(self._calls, self._journal, uploader))

    def _uploader(self, phase: Phase) -> Uploader:
        return Uploader(self._calls, phase, self._journal.log_file(phase))

    def _delivery(self, phase: Phase) -> Delivery:
        return Delivery(self._calls, self._journal, self._uploader(phase))

    def _deliver(self, delivery: Delivery) -> bool | None:
        """Report a phase's end; returns as :meth:`_take_up`.

        Raises:
            LeaseGone: the server does not want to hear it.
        """
        self._set_activity(Activity.FINISHED)
        if self._tell(delivery) == Directive.END:
            return delivery.request.directory_kept
        self._hold()
        return None

    def _tell(self, delivery: Delivery) -> Directive:
        """Report until the server has heard: a result is never dropped for anything else.

        Raises:
            LeaseGone: the server does not want to hear it.
        """
        while True:
            try:
                return delivery.deliver()
            except LeaseGone:
                raise
            except Exception:  # the disk, a connection, an answer that makes no sense
                log.exception("lease %s: the report failed", self.lease_id)
                time.sleep(_REPORT_PAUSE)

    def _hold(self) -> None:
        """Keep the directory, locked, for the apply."""
        try:
            self._runs.acquire()
        except DirectoryInUse as error:
            log.warning("lease %s: %s", self.lease_id, error)
        with self._changed:
            # Should the server want the apply already: as news, its job comes along.
            self._known = Directive.HOLD
            if self._wish == Directive.PLAN:
                self._wish = Directive.HOLD
            self._activity = Activity.HOLDING
            self._changed.notify_all()

    # --- the end --------------------------------------------------------------------------

    def _end(self, keep: bool) -> None:
        """Give directory and slot back, once nothing runs any more."""
        leftovers.stop(self._directory, self._journal, kill=not self._permit.granted)
        try:
            self._directory.acquire()
        except DirectoryInUse as error:
            log.warning("lease %s: %s It stays.", self.lease_id, error)
        else:
            remove_home(self._directory.home)  # of a former process, whose run nobody resumed
            if keep:
                self._directory.touch()
            else:
                self._directory.discard()
            self._directory.release()
        request = EndedRequest(directory_kept=keep, detail=self._letting_go[:500])
        try:
            self._calls.ended(request, Patience())
        except Refused as refusal:
            self._settle(refusal)
        if self._permit.granted:
            self._identity.permitted(self.lease_id, self.incarnation)
        self._journal.note("ended")
        self._journal.remove()
        log.info("lease %s is over", self.lease_id)

    def _settle(self, refusal: Refused) -> None:
        """The server says that the apply was permitted, but its reply came too late to count."""
        if refusal.status != 409 or refusal.kind != "conflict" or self._permit.granted:
            log.info("lease %s: %s", self.lease_id, refusal.detail)
            return
        note_failure(self._journal, Phase.APPLY, Outcome.NOT_STARTED, self._letting_go)
        self._tell(self._delivery(Phase.APPLY))


def _phase_of(job: Job) -> Phase:
    return Phase.APPLY if job.plan else Phase.PLAN
