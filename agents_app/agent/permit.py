"""The apply permit as the agent asks for it: at most once, with a key that is on disk first."""

from __future__ import annotations

import logging
import threading
import uuid
from uuid import UUID

from agents_app.agent.client import Patience, Refused, Unreachable
from agents_app.agent.identity import Identity
from agents_app.agent.journal import LeaseJournal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.runner.errors import PermitDenied
from agents_app.schema import ApplyPath, PermitRequest

log = logging.getLogger("agent.permit")

#: How long to ask a server that does not answer, in seconds.
PATIENCE_SECONDS = 60.0

ASKED, GRANTED = "permit_asked", "permit_granted"


class PermitDesk:
    """Asks for the permit of one lease; implements the runner's ``PermitCall``.

    A denial is final: whatever the server may have granted meanwhile, this agent will start
    nothing. It then reports ``not_started``, which tells the server that nothing was applied.
    """

    def __init__(self, calls: LeaseCalls, journal: LeaseJournal, identity: Identity) -> None:
        self._calls, self._journal, self._identity = calls, journal, identity
        self._lock = threading.Lock()
        self._patience = Patience(PATIENCE_SECONDS)
        self._closed = ""
        self._granted = journal.last(GRANTED) is not None

    @property
    def granted(self) -> bool:
        """Whether an apply may be running: it must not be stopped any more."""
        with self._lock:
            return self._granted

    @property
    def asked(self) -> bool:
        """Whether it was asked for, now or by a former agent process: the question is on disk."""
        return self._journal.last(ASKED) is not None

    def close(self, why: str) -> bool:
        """Deny from now on; False if the permit was granted before."""
        with self._lock:
            if self._granted:
                return False
            self._closed = self._closed or why
        self._patience.end()
        return True

    def __call__(
        self,
        *,
        plan_hash: str,
        manifest_digest: str,
        path: ApplyPath,
        path_reason: str,
        environment_digest: str,
    ) -> float:
        """Return for how many seconds from the request the state may be locked.

        Raises:
            PermitDenied: nothing may be applied; the sentence says why.
        """
        incarnation = self._identity.incarnation
        assert incarnation is not None, "register first"
        request = PermitRequest(
            key=self._key(),
            incarnation=incarnation,
            newest_lease=self._identity.newest_lease,
            newest_permit=self._identity.newest_permit,
            plan_hash=plan_hash,
            manifest_digest=manifest_digest,
            path=path,
            path_reason=path_reason[:500],
            environment_digest=environment_digest,
        )
        try:
            seconds = self._calls.permit(request, self._patience)
        except Refused as refusal:
            self.close(refusal.detail)
            raise PermitDenied(refusal.detail) from None
        except Unreachable as error:
            why = self._closed or f"No permit came: {error}"
            self.close(why)
            raise PermitDenied(why) from None
        with self._lock:
            if self._closed:
                raise PermitDenied(self._closed)
            self._granted = True
        self._journal.record(GRANTED, seconds=seconds)
        log.info("permit granted, path %s", path)
        return seconds

    def _key(self) -> UUID:
        asked = self._journal.last(ASKED)
        if asked is not None:
            return UUID(asked["key"])
        key = uuid.uuid4()
        self._journal.record(ASKED, key=str(key))
        return key
