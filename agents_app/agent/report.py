"""The end of a phase on its way to the server: on disk first, then told until it is heard."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

from agents_app.agent.client import Patience, Refused
from agents_app.agent.journal import LeaseJournal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.uploads import Uploader
from agents_app.runner.apply import ApplyOutcome
from agents_app.runner.log import RunLog
from agents_app.runner.plan import PlanOutcome
from agents_app.runner.run import Run
from agents_app.schema import Artifact, Directive, FinishRequest, Outcome, Phase

log = logging.getLogger("agent.report")

#: The journal's names of a phase's life.
BEGUN, OVER, DELIVERED = "begun", "over", "delivered"

_ERROR_LENGTH, _DIAGNOSTICS = 2000, 100
#: How often contents that the server misses are sent before the phase ends without them.
_ATTEMPTS = 5


class LeaseGone(Exception):
    """The server wants no more reports of this lease."""


def note_outcome(
    journal: LeaseJournal, phase: Phase, outcome: PlanOutcome | ApplyOutcome, run: Run
) -> None:
    """Put the end of a phase on disk."""
    plan = outcome.result if isinstance(outcome, PlanOutcome) else None
    path = outcome.path if isinstance(outcome, ApplyOutcome) else None
    reason = outcome.path_reason if isinstance(outcome, ApplyOutcome) else ""
    files = _files(outcome)
    request = FinishRequest(
        phase=phase,
        outcome=outcome.outcome,
        error=outcome.error[:_ERROR_LENGTH],
        exit_code=outcome.exit_code,
        plan=plan,
        diagnostics=outcome.diagnostics[:_DIAGNOSTICS],
        steps=run.steps,
        path=path,
        path_reason=reason[:500],
        log_bytes=run.log.size,
        log_truncated=run.log.truncated,
        state_recovered=Artifact.RECOVERED_STATE in files,
        directory_kept=keeps_directory(phase, outcome.outcome),
    )
    _note(journal, request, files)


def note_failure(
    journal: LeaseJournal, phase: Phase, outcome: Outcome, error: str, log_: RunLog | None = None
) -> None:
    """Put the end of a phase on disk that never came to a result of the runner."""
    request = FinishRequest(
        phase=phase,
        outcome=outcome,
        error=error[:_ERROR_LENGTH],
        log_bytes=log_.size if log_ else 0,
        log_truncated=bool(log_ and log_.truncated),
        directory_kept=True,
    )
    _note(journal, request, {})


def _note(journal: LeaseJournal, request: FinishRequest, files: dict[Artifact, Path]) -> None:
    facts = {
        "request": request.model_dump(mode="json"),
        "files": {kind.value: str(path) for kind, path in files.items()},
    }
    # On a full disk it is told all the same; only a restart before that would lose it.
    journal.note(OVER, **facts)
    log.info("%s is over: %s %s", request.phase, request.outcome, request.error)


def _files(outcome: PlanOutcome | ApplyOutcome) -> dict[Artifact, Path]:
    if isinstance(outcome, PlanOutcome):
        return outcome.files
    state = outcome.recovered_state
    return {Artifact.RECOVERED_STATE: state} if state else {}


def undelivered(journal: LeaseJournal) -> bool:
    """Return whether a journal has a result that the server still has to hear."""
    names = {event["event"] for event in journal.since(BEGUN)}
    return OVER in names and DELIVERED not in names


def keeps_directory(phase: Phase, outcome: Outcome) -> bool:
    """Return whether the work directory stays after a phase.

    A plan's stays, for its apply or for the cleanup. An apply's goes when it is over; it stays
    where nothing began, for the next attempt, and where its end is not known, as evidence.
    """
    return phase == Phase.PLAN or outcome in {Outcome.NOT_STARTED, Outcome.INTERRUPTED}


class Delivery:
    """Brings one noted end to the server, with the contents and the log it speaks of."""

    def __init__(self, calls: LeaseCalls, journal: LeaseJournal, uploader: Uploader) -> None:
        self._calls, self._journal, self._uploader = calls, journal, uploader
        self._stored = False  # the recovered state is on the server
        noted = journal.last(OVER)
        assert noted is not None, "note the end first"
        self.request = FinishRequest.model_validate(noted["request"])
        self._files = {
            Artifact(kind): self._where(Path(path)) for kind, path in noted["files"].items()
        }

    def _where(self, path: Path) -> Path:
        """Return where a file is, which was perhaps kept before a restart."""
        kept = self._journal.kept(path)
        return kept if kept.exists() and not path.exists() else path

    def deliver(self) -> Directive:
        """Tell the server until it has heard; returns its next wish.

        Raises:
            LeaseGone: it does not want to hear; what it lacks stays on this disk.
        """
        self._put_files(self._files)
        try:
            directive = self._finish()
        except Refused as refusal:
            raise LeaseGone(self._lost(refusal)) from None
        self._journal.note(DELIVERED, directive=directive.value)
        state = self._files.get(Artifact.RECOVERED_STATE)
        if state is not None and self.request.state_recovered:
            _delete(state)  # the server has it now
        return directive

    def _finish(self) -> Directive:
        for attempt in itertools.count(1):
            try:
                self._uploader.complete()
                return self._calls.finish(self.request, Patience()).directive
            except Refused as refusal:
                if refusal.kind == "log-incomplete":
                    self._log_again(int(refusal.extra["next_offset"]))
                elif refusal.kind == "artifacts-missing":
                    self._put_again(refusal, last=attempt >= _ATTEMPTS)
                elif not self._give_less(refusal):
                    raise
        raise AssertionError("unreachable")

    def _log_again(self, offset: int) -> None:
        """Continue the log where the server has a gap; a log that is lost is cut."""
        log.warning("the server lacks the log from byte %d on", offset)
        self._uploader.rewind(offset)
        here = self._uploader.size
        if here < self.request.log_bytes:
            changes = {"log_bytes": here, "log_truncated": True}
            self.request = self.request.model_copy(update=changes)

    def _put_again(self, refusal: Refused, *, last: bool) -> None:
        missing = [Artifact(kind) for kind in refusal.extra["missing"]]
        if last or not set(missing) <= set(self._files):
            self._without(missing[0], refusal.detail)
        else:
            self._put_files({kind: self._files[kind] for kind in missing})

    def _put_files(self, files: dict[Artifact, Path]) -> None:
        for kind, path in files.items():
            try:
                self._calls.put_artifact(kind, path, Patience())
                self._stored |= kind == Artifact.RECOVERED_STATE
            except FileNotFoundError:
                self._without(kind, f"The {kind} vanished from the agent's disk.")
            except Refused as refusal:
                if kind == Artifact.RECOVERED_STATE or refusal.status == 413:
                    self._without(kind, f"The {kind} was not stored: {refusal.detail}")
                # Anything else is said again at the phase's end.

    def _without(self, kind: Artifact, why: str) -> None:
        """Report what is true without a content that the server cannot have."""
        request = self.request
        if kind == Artifact.RECOVERED_STATE:
            where = self._keep_state()
            log.error("%s The state of a failed apply stays in %s.", why, where)
            changes = {
                "outcome": Outcome.INTERRUPTED,  # a person must look before anything goes on
                "state_recovered": False,
                "error": f"{request.error} {why} It lies in {where} on the agent."[:_ERROR_LENGTH],
            }
        elif request.plan is not None and kind == Artifact.PLAN_BUNDLE:
            log.warning("%s", why)
            changes = {"plan": request.plan.model_copy(update={"bundle_stored": False})}
        else:
            log.error("%s", why)
            changes = {"outcome": Outcome.FAILED, "plan": None, "error": why}
        self.request = request.model_copy(update=changes)

    def _give_less(self, refusal: Refused) -> bool:
        """After a 400: report the bare outcome, so that the task does not hang on a detail."""
        if refusal.status not in (400, 413) or not self.request.diagnostics + self.request.steps:
            return False
        log.error("the server refuses the report: %s", refusal.detail)
        self.request = self.request.model_copy(update={"diagnostics": [], "steps": []})
        return True

    def _lost(self, refusal: Refused) -> str:
        state = self._files.get(Artifact.RECOVERED_STATE)
        if state is not None and self._stored:
            _delete(state)
        elif state is not None and state.exists():
            log.error("The state of a failed apply is kept in %s.", self._keep_state())
        return refusal.detail

    def _keep_state(self) -> Path:
        state = self._files[Artifact.RECOVERED_STATE]
        if state.exists() and state != self._journal.kept(state):
            state = self._files[Artifact.RECOVERED_STATE] = self._journal.keep(state)
        return state


def _delete(state: Path) -> None:
    """Delete a state, which holds secrets; what was told of it does not depend on that."""
    try:
        state.unlink(missing_ok=True)
    except OSError as error:
        log.error("the state in %s, which the server has, stays: %s", state, error.strerror)
