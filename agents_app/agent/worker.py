"""One lease on this agent: plan, report, warm up and hold, apply, report, let go.

Other threads only say what is wished (`wishes.py`); the worker's own thread acts on it.

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
from agents_app.agent.warming import Warming
from agents_app.agent.wishes import WARMS, Wishes, phase_of
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
_REPORT_PAUSE = 10.0

_ALIVE = {Activity.PLANNING, Activity.HELD, Activity.PREPARING, Activity.APPLYING}
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
            applying=lambda: self._wishes.now(Activity.APPLYING),
        )
        self._wishes = Wishes(lease_id, self.epoch)
        self._warming = Warming(self._runs)
        self._runs.take_held = self._warming.take
        self._thread = threading.Thread(target=self._run, name=f"lease {lease_id}", daemon=True)

    def start(self) -> None:
        """Begin; what a former agent process left is taken up first."""
        self._thread.start()

    # --- what other threads say and ask ---------------------------------------------------

    def wish(self, assignment: Assignment) -> None:
        """Take over what the server wants now."""
        self._wishes.assign(assignment)
        if assignment.directive == Directive.CANCEL:
            self._runs.control.interrupt()
        elif assignment.directive == Directive.KILL:
            self._runs.control.kill()
        elif assignment.directive == Directive.END:
            self.let_go("the server wants its slot back")

    def confirmed(self) -> None:
        """Ask for the permit of what lies ready, if anything does."""
        self._wishes.confirmed()

    def unlisted(self) -> None:
        """The server does not name this lease any more."""
        self._wishes.unlisted()
        self.let_go("the server does not name this lease any more")

    def let_go(self, why: str) -> None:
        """Stop what has no permit, and give the lease back."""
        if not self._permit.close(why) or not self._wishes.let_go(why):
            return
        log.info("lease %s: letting go: %s", self.lease_id, why)
        self._runs.stop()
        killer = threading.Timer(STOP_SECONDS, self._runs.control.kill)
        killer.daemon = True
        killer.start()

    def let_go_if_idle(self, why: str) -> None:
        """Give the lease back unless something runs or is to be reported."""
        if self._wishes.idle:
            self.let_go(why)

    def interrupt(self, why: str) -> None:
        """Ask a permitted apply once to stop after what it is doing; let go anything else.

        Nobody cancelled the task: what has no permit is done again elsewhere.
        """
        self.let_go(why)
        if self._permit.granted:
            self._runs.control.interrupt()

    def known(self) -> KnownAssignment | None:
        """Return the newest wish that the server said, None if there is none."""
        return self._wishes.known()

    def report(self) -> LeaseReport:
        """Return this lease for a heartbeat."""
        activity = self._wishes.activity
        return LeaseReport(
            lease_id=self.lease_id,
            epoch=self.epoch,
            activity=activity,
            process_alive=activity in _ALIVE,
            permitted=self._permit.granted,
        )

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
            keep = None if undelivered(self._journal) and not self._wishes.letting_go else True
        try:
            self._warming.close()
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
            wish = self._wishes.next(self._began, self._warming.look_seconds)
            if wish is None:
                if (change := self._warming.look()) is not None:
                    self._wishes.now(change)
                continue
            directive, job = wish
            if directive == Directive.END:
                return self._wishes.keep
            assert job is not None
            if directive in WARMS:
                self._warm(job)
            else:
                done = self._phase(phase_of(job), job, [])
        return done

    def _warm(self, job: Job) -> None:
        self._owners.claim(self.task_id)
        self._wishes.now(Activity.WARMING)
        self._wishes.now(self._warming.warm(job, self._wishes.received))

    def _take_up(self) -> bool | None:
        """Finish what a former agent process began.

        Returns:
            Whether to keep the directory, if nothing is left to do; else None.
        """
        leftovers.stop_holds(self._directory, self._journal)
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
        self._wishes.now(Activity.APPLYING if self._permit.granted else Activity.PLANNING)
        job, unnamed = self._wishes.job_of_running(
            lambda: leftovers.alive(self._directory, self._journal)
        )
        if unnamed:
            self._keep_evidence()
        return True if job is None else self._phase(phase, job, events)

    def _keep_evidence(self) -> None:
        try:
            self._directory.acquire()
            where = self._directory.quarantine()
        except (DirectoryInUse, OSError):
            where = self._directory.path
        log.error("lease %s: nobody takes the result of its apply: see %s", self.lease_id, where)

    def _began(self, phase: Phase) -> bool:
        """Return whether a phase began before: nothing begins twice under one lease."""
        events = self._journal.events
        return any(e["event"] == BEGUN and e["phase"] == phase for e in events)

    # --- a phase --------------------------------------------------------------------------

    def _phase(self, phase: Phase, job: Job, events: list[Event]) -> bool | None:
        """Run a phase and report its end; returns as :meth:`_take_up`.

        Args:
            events: what a former agent process noted of it.
        """
        if not events:
            self._owners.claim(self.task_id)
            self._journal.record(BEGUN, phase=phase.value)
            self._wishes.now(Activity.PLANNING if phase == Phase.PLAN else Activity.PREPARING)
        uploader = self._uploader(phase)
        try:
            self._runs.run(phase, job, events, uploader, self._wishes.received)
        finally:
            uploader.close()
        if self._wishes.letting_go:
            # What was stopped has no result; `ended` says all there is.
            return self._wishes.keep
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
        self._wishes.now(Activity.FINISHED)
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
        self._wishes.hold()

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
        request = EndedRequest(directory_kept=keep, detail=self._wishes.letting_go[:500])
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
        note_failure(self._journal, Phase.APPLY, Outcome.NOT_STARTED, self._wishes.letting_go)
        self._tell(self._delivery(Phase.APPLY))
