"""The task's state machines as data: statuses, groups and the transition tables.

`docs/states.md` and the exhaustive tests are derived from :data:`TRANSITIONS` and
:data:`WARMUP_TRANSITIONS`; only `tasks_app/transitions.py` writes `Task.status`, and only
`tasks_app/services/warmups.py` its warm-up while the task is live.
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


class WarmupStatus(TextChoices):
    NONE = "none", "Not warmed"
    WARMING = "warming", "Warming"
    READY = "ready", "Ready"
    EXPIRED = "expired", "Expired"
    FAILED = "failed", "Failed"


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

#: Of a plan that waits for a person: what lies ready for its apply.
WARMUP_TRANSITIONS: dict[WarmupStatus, dict[WarmupStatus, str]] = {
    WarmupStatus.NONE: {
        WarmupStatus.WARMING: "an agent was given the warm-up",
        WarmupStatus.READY: "the agent that planned keeps the plan's directory",
    },
    WarmupStatus.WARMING: {
        WarmupStatus.READY: "the agent has a directory that is proven to be that of the plan",
        WarmupStatus.FAILED: "the agent could not; tried again after a pause, at most 3 times",
        WarmupStatus.NONE: "the lease ended: agent lost, slot yielded, freeze",
    },
    WarmupStatus.READY: {
        WarmupStatus.EXPIRED: "its agent was not heard while it had to be renewed",
        WarmupStatus.FAILED: "the directory was found damaged and could not be restored",
        WarmupStatus.NONE: "the lease ended: agent lost, slot yielded, freeze, kept long enough",
    },
    WarmupStatus.EXPIRED: {
        WarmupStatus.WARMING: "an agent was given the warm-up",
        WarmupStatus.NONE: "the pool was frozen",
    },
    WarmupStatus.FAILED: {
        WarmupStatus.WARMING: "an agent was given another attempt",
        WarmupStatus.NONE: "a person asked for it again, or the pool was frozen",
    },
}
#: After so many failures in a row a plan is not warmed again, unless a person asks for it.
WARMUP_ATTEMPTS = 3

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


def warmup_sources_of(target: WarmupStatus) -> list[WarmupStatus]:
    """Return the states of a warm-up from which ``target`` can be reached in one step."""
    return [source for source, targets in WARMUP_TRANSITIONS.items() if target in targets]
