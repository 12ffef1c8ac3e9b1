"""The task's state machine as data: statuses, groups and the transition table.

`docs/states.md` and the exhaustive test are derived from :data:`TRANSITIONS`; only
`tasks_app/transitions.py` writes `Task.status`.
"""

from django.db.models import TextChoices


class Status(TextChoices):
    PENDING = "pending", "Pending"
    PLANNING = "planning", "Planning"
    APPLY_PENDING = "apply_pending", "Apply pending"
    CONFIRMED = "confirmed", "Confirmed"
    APPLYING = "applying", "Applying"
    APPLY_UNKNOWN = "apply_unknown", "Apply unknown"
    SUCCESS = "success", "Success"
    PLANNED_AND_FINISHED = "planned_and_finished", "Planned and finished"
    APPLIED = "applied", "Applied"
    DISCARDED = "discarded", "Discarded"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"
    INTERRUPTED = "interrupted", "Interrupted"


class TaskType(TextChoices):
    PLAN = "plan", "Plan"
    PLAN_AND_APPLY = "plan_and_apply", "Plan and apply"
    DRIFT_CHECK = "drift_check", "Drift check"


#: From each status, where it may go and what causes it.
TRANSITIONS: dict[Status, dict[Status, str]] = {
    Status.PENDING: {
        Status.PLANNING: "a lease was given to the task",
        Status.CANCELLED: "a person cancelled it",
        Status.FAILED: "it can never start: version withdrawn, pool deleted",
    },
    Status.PLANNING: {
        Status.SUCCESS: "a plan or drift check ended",
        Status.PLANNED_AND_FINISHED: "the plan has no changes",
        Status.APPLY_PENDING: "the plan has changes and waits for a person",
        Status.FAILED: "the plan failed",
        Status.CANCELLED: "a person cancelled it",
        Status.PENDING: "the agent was lost; a new lease, at most 3 times",
    },
    Status.APPLY_PENDING: {
        Status.CONFIRMED: "a person said yes",
        Status.DISCARDED: "a person said no, or the plan became void",
        Status.CANCELLED: "a person cancelled it",
    },
    Status.CONFIRMED: {
        Status.APPLYING: "the one apply permit was granted",
        Status.CANCELLED: "a person cancelled it before the permit",
        Status.FAILED: "the plan cannot be applied any more",
    },
    Status.APPLYING: {
        Status.APPLIED: "Terraform applied the plan",
        Status.FAILED: "Terraform failed",
        Status.CANCELLED: "a person cancelled it and Terraform stopped cleanly",
        Status.INTERRUPTED: "Terraform was killed or its result is not known",
        Status.APPLY_UNKNOWN: "the agent vanished after the permit",
    },
    Status.APPLY_UNKNOWN: {
        Status.APPLYING: "the same lease reports again",
        Status.APPLIED: "a late report or a person's verdict",
        Status.FAILED: "a late report or a person's verdict",
        Status.INTERRUPTED: "a late report or a person's verdict",
    },
    Status.SUCCESS: {},
    Status.PLANNED_AND_FINISHED: {},
    Status.APPLIED: {},
    Status.DISCARDED: {},
    Status.CANCELLED: {},
    Status.FAILED: {},
    Status.INTERRUPTED: {},
}

FINAL = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
#: What people and filters call "running".
RUNNING = frozenset({Status.PLANNING, Status.APPLYING})
#: Not final and nothing runs: such a task always has exactly one waiting reason, at first this.
WAITING: dict[Status, str] = {
    Status.PENDING: "Waits to be placed",
    Status.APPLY_PENDING: "Waits for a person to confirm or discard the plan",
    Status.CONFIRMED: "Waits for its slot",
    Status.APPLY_UNKNOWN: "Waits for its agent to report again, or for a person's verdict",
}
#: The statuses in which a plan_and_apply occupies its workspace.
OCCUPYING = (
    Status.PLANNING,
    Status.APPLY_PENDING,
    Status.CONFIRMED,
    Status.APPLYING,
    Status.APPLY_UNKNOWN,
)


def sources_of(target: Status) -> list[Status]:
    """Return the statuses from which ``target`` can be reached in one step."""
    return [source for source, targets in TRANSITIONS.items() if target in targets]
