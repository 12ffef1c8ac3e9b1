"""The long poll: what the server wishes of every lease, handed to the lease's worker."""

from __future__ import annotations

import logging
import threading
import time
from uuid import UUID

from agents_app.agent.client import Patience, Refused, Server, Unreachable
from agents_app.agent.identity import Identity
from agents_app.agent.journal import LeaseJournal, journals, new_journal
from agents_app.agent.machine import Machine
from agents_app.agent.options import Options
from agents_app.agent.worker import LEASE, LeaseWorker
from agents_app.schema import Assignment, Directive, LeaseReport, WorkReply, WorkRequest

log = logging.getLogger("agent.loop")

#: After an apply began: the next poll leaves the server to its permit.
_START_SECONDS = 0.1
#: A reply that is the same as the one before and came at once is not asked for again at once.
_HASTE_SECONDS = 1.0
_ENDING = "the agent is ending"


class Loop:
    """The leases of this agent, and the poll that keeps them as the server wishes."""

    def __init__(
        self, options: Options, server: Server, identity: Identity, machine: Machine, poll: float
    ) -> None:
        self._options, self._server = options, server
        self._identity, self._machine = identity, machine
        self._poll_seconds = poll
        self._workers: dict[UUID, LeaseWorker] = {}
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._ended = threading.Condition(self._lock)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def start(self) -> None:
        """Take up what a former agent process left, then poll."""
        for lease_id, journal in journals(self._options.directory):
            if journal.last(LEASE) is None or journal.last("ended") is not None:
                journal.remove()
                continue
            log.info("lease %s was here before", lease_id)
            self._start(self._worker(lease_id, journal))
        self._thread.start()

    def end(self) -> None:
        """Poll no more after the poll that runs."""
        self._over.set()

    # --- asked and told by other threads --------------------------------------------------

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def workers(self) -> list[LeaseWorker]:
        """Return the leases that are not over."""
        with self._lock:
            return list(self._workers.values())

    def reports(self, incarnation: UUID) -> list[LeaseReport]:
        """Return the leases of an incarnation for a heartbeat.

        A lease of a former one proves nothing about the present database.
        """
        return [w.report() for w in self.workers() if w.incarnation == incarnation]

    def tasks(self) -> list[UUID]:
        """Return the tasks of all leases."""
        return [worker.task_id for worker in self.workers()]

    def drain(self) -> None:
        """Take nothing new, let go what only waits; what runs ends by itself."""
        self._draining.set()
        for worker in self.workers():
            worker.let_go_if_idle(_ENDING)

    def interrupt(self) -> None:
        """Ask every run once to stop after what it is doing."""
        for worker in self.workers():
            worker.interrupt(_ENDING)

    def wait_for_end(self, seconds: float) -> None:
        """Wait until a lease is over, or for so long."""
        with self._ended:
            self._ended.wait(seconds)

    def incarnation_seen(self, incarnation: UUID) -> None:
        """The server speaks for a new incarnation: what has no permit there stops."""
        with self._lock:
            if self._identity.incarnation in (None, incarnation):
                return
            log.warning("the server has begun a new incarnation: %s", incarnation)
            self._identity.begin(incarnation)
            workers = list(self._workers.values())
        for worker in workers:
            worker.let_go("the installation began a new incarnation")

    # --- the poll's thread ----------------------------------------------------------------

    def _run(self) -> None:
        before: WorkReply | None = None
        wait = 0.0  # the first reply tells at once what was here before
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                reply = self._poll(wait)
                self._take(reply)
            except Unreachable:
                reply = None  # the client has said so
            except Refused as refusal:
                log.warning("no work: %s", refusal)
                reply = None
            except Exception:
                log.exception("the poll failed")
                reply = None
            hasty = time.monotonic() - begun < _HASTE_SECONDS
            if reply is None or (wait and hasty and _same(reply, before)):
                self._over.wait(_HASTE_SECONDS)
            elif _applies(reply) - _applies(before):
                self._over.wait(_START_SECONDS)
            before, wait = reply, self._poll_seconds

    def _poll(self, wait: float) -> WorkReply:
        incarnation = self._identity.incarnation
        assert incarnation is not None, "register first"
        known = [known for worker in self.workers() if (known := worker.known())]
        request = WorkRequest(incarnation=incarnation, known=known, wait_seconds=wait)
        # Repeated for a while only: what is known changes meanwhile.
        return self._server.work(request, Patience(30.0))

    def _take(self, reply: WorkReply) -> None:
        if reply.assignments is not None:
            self._reconcile(reply.assignments)
        for lease_id in reply.confirmed:
            with self._lock:
                worker = self._workers.get(lease_id)
            if worker is not None:
                worker.confirmed()

    def _reconcile(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            with self._lock:
                worker = self._workers.get(assignment.lease_id)
            if worker is None:
                try:
                    worker = self._begin(assignment)
                except (OSError, RuntimeError) as error:  # no disk, no thread: the next poll tries
                    log.error("lease %s: not taken: %s", assignment.lease_id, error)
                    continue
            elif self._identity.incarnation is not None:
                worker.incarnation = self._identity.incarnation
            worker.wish(assignment)
        named = {assignment.lease_id for assignment in assignments}
        for worker in self.workers():
            if worker.lease_id not in named:
                worker.unlisted()
            elif self.draining:
                worker.let_go_if_idle(_ENDING)

    def _begin(self, assignment: Assignment) -> LeaseWorker:
        journal = new_journal(self._options.directory, assignment.lease_id)
        try:
            journal.record(
                LEASE,
                epoch=assignment.epoch,
                task=str(assignment.task_id),
                workspace=str(assignment.workspace_id),
                incarnation=str(self._identity.incarnation),
            )
            self._identity.received(assignment.lease_id)
            worker = self._worker(assignment.lease_id, journal)
            if self.draining:
                worker.let_go(_ENDING)
            self._start(worker)
        except (OSError, RuntimeError):
            journal.close()
            raise
        return worker

    def _worker(self, lease_id: UUID, journal: LeaseJournal) -> LeaseWorker:
        return LeaseWorker(lease_id, journal, self._machine, self._server, self._is_over)

    def _start(self, worker: LeaseWorker) -> None:
        """Let a worker begin, and count it; one that no thread is left for is none.

        Raises:
            RuntimeError: there is no thread for it.
        """
        with self._lock:
            self._workers[worker.lease_id] = worker
        try:
            worker.start()
        except RuntimeError:
            self._is_over(worker)
            raise

    def _is_over(self, worker: LeaseWorker) -> None:
        with self._ended:
            self._workers.pop(worker.lease_id, None)
            self._ended.notify_all()


def _same(reply: WorkReply, before: WorkReply | None) -> bool:
    if before is None or reply.confirmed != before.confirmed:
        return False
    return _wishes(reply) == _wishes(before)


def _applies(reply: WorkReply | None) -> set[UUID]:
    if reply is None:
        return set()
    wished = {lease_id for lease_id, directive in _wishes(reply) if directive == Directive.APPLY}
    return wished | set(reply.confirmed)


def _wishes(reply: WorkReply) -> list[tuple[UUID, str]]:
    return [(one.lease_id, one.directive) for one in reply.assignments or ()]
