"""Every refusal has a name, a stable type, an HTTP status and a sentence that says what to do.

API, admin and commands show the same error: the API as a problem document (RFC 9457) whose
``type`` is ``urn:slipway:<type>``.
"""

from collections.abc import Iterable, Mapping
from typing import Any


class SlipwayError(Exception):
    """Base of every refusal.

    Args:
        detail: one sentence for people: what is wrong and what to do.
        field: the input field it is about, for 400s.
        extra: further members of the problem document.
    """

    type = "error"
    title = "The request could not be carried out."
    status = 400

    def __init__(self, detail: str = "", *, field: str = "", **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field
        self.extra: Mapping[str, Any] = extra


class InvalidInput(SlipwayError):
    """A field's value cannot be used."""

    type = "invalid-input"
    title = "The input is not valid."


class ArchiveRefused(InvalidInput):
    """A configuration archive holds something that is never unpacked."""

    type = "archive-refused"
    title = "The archive was refused; nothing was stored."


class Unauthenticated(SlipwayError):
    """No token, or one that is unknown, expired or revoked."""

    type = "unauthenticated"
    title = "Who are you? The token is missing or not valid."
    status = 401


class NotPermitted(SlipwayError):
    """The actor lacks the role for this action."""

    type = "not-permitted"
    title = "Your role does not allow this."
    status = 403


class NotFound(SlipwayError):
    """It does not exist, or the actor may not know that it does."""

    type = "not-found"
    title = "There is no such object, or you may not see it."
    status = 404


class Conflict(SlipwayError):
    """The object is not in a state that allows this."""

    type = "conflict"
    title = "The object changed meanwhile."
    status = 409


class IllegalTransition(Conflict):
    """The task's status does not allow the requested change."""

    type = "illegal-transition"
    title = "The task's status does not allow this."

    def __init__(self, current: str, target: str, allowed: Iterable[str]) -> None:
        ways = ", ".join(sorted(allowed)) or "nothing: it is final"
        super().__init__(
            f"The task is {current}, which cannot become {target}; allowed from here: {ways}.",
            current=current,
            allowed=sorted(allowed),
        )


class PlanMismatch(Conflict):
    """The confirmation names another plan than the task has."""

    type = "plan-mismatch"
    title = "This is not the plan that waits. Read the current plan and confirm that one."


class PlanVoid(Conflict):
    """The plan cannot be applied any more, because the state moved on."""

    type = "plan-void"
    title = "The state changed since this plan was made. Discard it and plan again."


class WorkspaceLocked(Conflict):
    """A person locked the workspace."""

    type = "workspace-locked"
    title = "The workspace is locked."


class NameTaken(Conflict):
    """Another agent of the pool has this name, and is alive."""

    type = "name-taken"
    title = "Another agent has this name; give each its own."


class StaleLease(Conflict):
    """An agent wrote with a lease or epoch that is not its own any more."""

    type = "stale-lease"
    title = "This lease is over. Stop its work; nothing was changed."


class PermitRefused(Conflict):
    """The apply may not go ahead."""

    type = "permit-refused"
    title = "The apply permit was refused; nothing may be applied."


class NoCapacity(Conflict):
    """There is no slot for the task now. Never shown as an error: it becomes a waiting reason."""

    type = "no-capacity"
    title = "No slot is free."


class StateConflict(Conflict):
    """A state write does not follow from the current state."""

    type = "state-conflict"
    title = "The state was not stored: it does not follow the current one."


class StateLocked(SlipwayError):
    """Somebody else holds the state lock; ``extra['holder']`` is Terraform's LockInfo."""

    type = "state-locked"
    title = "The state is locked by somebody else."
    status = 423


class TooLarge(SlipwayError):
    """A content is larger than its limit."""

    type = "too-large"
    title = "The content is larger than allowed."
    status = 413


class DecryptionFailed(SlipwayError):
    """A stored secret cannot be read: its key is missing from the ring, or it was altered."""

    type = "decryption-failed"
    title = "A stored content cannot be decrypted. Check SLIPWAY_ENCRYPTION_KEYS."
    status = 503
