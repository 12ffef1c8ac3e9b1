"""Words that every message uses."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

API_PREFIX = "/api/agent/v1/"
INCARNATION_HEADER = "Slipway-Incarnation"
DIGEST_HEADER = "Slipway-Digest"


class Message(BaseModel):
    """Base of every message: immutable, and strict about unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Empty(Message):
    """A reply that says nothing but "committed"."""


class Directive(StrEnum):
    """What the server wants of a lease now. Level-triggered: always the whole wish."""

    PLAN = "plan"
    WARMUP = "warmup"  # make a directory ready for the apply, then as hold
    HOLD = "hold"  # keep the directory ready, and Terraform started but held at its gate
    APPLY = "apply"
    CANCEL = "cancel"  # interrupt Terraform once, wait for it, then finish
    KILL = "kill"  # a forced cancel: SIGKILL Terraform's whole session
    END = "end"  # stop what has no permit, remove the directory unless kept, report ended


class Phase(StrEnum):
    """A phase of a task's run, also the name of its log."""

    PLAN = "plan"
    WARMUP = "warmup"
    APPLY = "apply"


class Activity(StrEnum):
    """What an agent says a lease is doing."""

    STARTING = "starting"
    PLANNING = "planning"
    WARMING = "warming"
    HOLDING = "holding"  # the directory is there, nothing runs
    HELD = "held"  # Terraform waits at its gate
    PREPARING = "preparing"
    APPLYING = "applying"
    FINISHED = "finished"  # result known to the agent, not yet acknowledged by the server


class Artifact(StrEnum):
    """Contents an agent stores with a lease, encrypted at rest."""

    PLAN_BUNDLE = (
        "plan_bundle"  # tar.gz of plan.out, plan.json, manifest.json, lock file, new files
    )
    PLAN_JSON = "plan_json"  # `terraform show -json plan.out`
    PLAN_TEXT = "plan_text"  # `terraform show plan.out`, redacted
    RECOVERED_STATE = "recovered_state"  # errored.tfstate, or the dump on stdout


class Outcome(StrEnum):
    """How a phase ended, in the words of the runner."""

    PLANNED = "planned"  # there are changes
    NO_CHANGES = "no_changes"
    APPLIED = "applied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # Terraform was killed, or its result is not known
    NOT_STARTED = "not_started"  # the permit was refused or lost; provably nothing ran


class ApplyPath(StrEnum):
    """The way an apply got its directory, fastest first."""

    HELD = "held"  # Terraform was started before the confirmation
    KEPT = "kept"  # the plan's own directory
    WARMED = "warmed"  # restored and verified before the confirmation
    NORMAL = "normal"  # restored after it
