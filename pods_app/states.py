"""Vocabulary of pods, slots and leases."""

from django.db.models import TextChoices


class PoolKind(TextChoices):
    STATIC = "static", "Static: agents started by hand"
    LOCAL = "local", "Local processes, started by the controller"
    KUBERNETES = "kubernetes", "Kubernetes pods, created by the controller"


class PodPhase(TextChoices):
    STARTING = "starting", "Starting"
    ONLINE = "online", "Online"
    LOST = "lost", "Lost"
    GONE = "gone", "Gone"


#: Why Slipway itself drains a pod. By its reason a later pass knows what it was about to do.
TOO_MANY = "the pool has more pods than it wants"
OUTDATED = "the pool's template or settings have changed"
UNSTARTED = "its agent did not register in time"
SILENT = "its agent is not heard of"
ENDED_THERE = "it is being ended in the cluster"
#: It was too many, and takes work as soon as nobody can be about to end it.
RETURNING = "the pool wants it again"
DRAIN_REASONS = (TOO_MANY, OUTDATED, UNSTARTED, SILENT, ENDED_THERE, RETURNING)


class SlotStatus(TextChoices):
    IDLE = "idle", "Idle"
    RUNNING = "running", "Running"
    RESERVED = "reserved", "Reserved"


class LeasePhase(TextChoices):
    PLAN = "plan", "Plan"
    WARMUP = "warmup", "Warm-up"
    HOLD = "hold", "Hold"
    APPLY = "apply", "Apply"


#: Nothing runs for a person yet: the slot is reserved for the apply, and yields if it must.
RESERVING = (LeasePhase.WARMUP, LeasePhase.HOLD)


class LeaseState(TextChoices):
    LIVE = "live", "Live"
    ENDING = "ending", "Ending: until the agent reports the process gone"
    ENDED = "ended", "Ended"


class DirectoryState(TextChoices):
    KEPT = "kept", "Kept"
    QUARANTINED = "quarantined", "Quarantined"
    DELETING = "deleting", "Deleting"
    DELETED = "deleted", "Deleted"


class ApplyPath(TextChoices):
    """The way an apply gets its directory, fastest first; as schema.ApplyPath."""

    HELD = "held", "Held Terraform"
    KEPT = "kept", "Kept directory"
    WARMED = "warmed", "Warmed directory"
    NORMAL = "normal", "Normal path"


class FreezeState(TextChoices):
    OPEN = "open", "Open"
    CLOSING = "closing", "Closing: a freeze comes"
    FROZEN = "frozen", "Frozen"
    REOPENING = "reopening", "Reopening: pods come back"


class NoticeKind(TextChoices):
    """What operators are told of freezes; webhooks have the value as their type."""

    CHANNEL = "channel.added", "Channel added"
    DAY_AHEAD = "freeze.in_24_hours", "24 hours ahead"
    HOUR_AHEAD = "freeze.in_1_hour", "1 hour ahead"
    QUARTER_AHEAD = "freeze.in_15_minutes", "15 minutes ahead"
    BEGAN = "freeze.began", "Freeze began"
    ENDED = "freeze.ended", "Freeze ended"
    INTERRUPTED = "apply.interrupted", "Apply interrupted"
    DELAYED = "apply.delayed", "Apply delayed"
    OVERRIDE_BEGAN = "override.began", "Override began"
    OVERRIDE_ENDED = "override.ended", "Override ended"
