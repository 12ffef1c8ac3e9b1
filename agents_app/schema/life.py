"""A lease's life: steps, log, permit, and how a phase ends."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from agents_app.schema.vocabulary import ApplyPath, Directive, Message, Outcome, Phase


class Step(Message):
    """One named step of a run and how long it took."""

    name: str = Field(max_length=40)
    started_ms: float  # since the agent received the assignment, monotonic
    duration_ms: float
    detail: str = Field(default="", max_length=500)


class ProgressRequest(Message):
    phase: Phase
    steps: list[Step]


class LogReply(Message):
    next_offset: int  # bytes committed so far; the agent continues here


class PermitRequest(Message):
    """``key`` makes a repeated request safe: the same key gets the same answer.

    ``newest_lease`` and ``newest_permit`` are as in the heartbeat: a confirmation may be faster
    than the first one.
    """

    key: UUID
    incarnation: UUID
    newest_lease: UUID | None
    newest_permit: UUID | None = None
    plan_hash: str
    manifest_digest: str
    path: ApplyPath
    path_reason: str = Field(default="", max_length=500)  # why not a faster one; shown at once
    environment_digest: str = Field(min_length=1, max_length=64)  # of the job Terraform was given


class PermitReply(Message):
    """Only a granted permit is a 200. Refusals are 409 with a problem document."""

    valid_seconds: float  # LOCK is granted within this time only


class Diagnostic(Message):
    """One of Terraform's own errors or warnings."""

    severity: str
    summary: str
    detail: str = ""
    address: str = ""
    filename: str = ""
    line: int | None = None
    snippet: str = ""


class PlanResult(Message):
    """What a plan produced; the contents were stored before as artifacts."""

    plan_hash: str
    manifest_digest: str
    terraform_version: str
    bundle_stored: bool
    bundle_bytes: int
    to_add: int
    to_change: int
    to_destroy: int
    to_import: int
    output_changes: int
    state_lineage: str  # "" where the state is empty or the backend is foreign
    state_serial: int | None
    providers: list[str] = Field(default_factory=list)  # as in the heartbeat


class WarmupReport(Message):
    """What lies ready for an apply, told whenever it changes. Repeating it is safe."""

    ready: bool  # the directory is proven to be that of the reviewed plan
    held: bool = False  # and Terraform waits at its gate
    restored: bool = False  # from the server's copy, not the plan's own directory
    reason: str = Field(default="", max_length=500)  # why not ready, or not held
    permanent: bool = False  # not ready, and another attempt can do no better


class FinishRequest(Message):
    """The end of a phase. Repeating it is safe."""

    phase: Phase
    outcome: Outcome
    error: str = Field(default="", max_length=2000)  # one sentence for people
    exit_code: int | None = None
    plan: PlanResult | None = None
    diagnostics: list[Diagnostic] = Field(default_factory=list)
    steps: list[Step] = Field(default_factory=list)
    path: ApplyPath | None = None
    path_reason: str = Field(default="", max_length=500)
    log_bytes: int  # length of the redacted log; the server says when chunks are missing
    log_truncated: bool = False
    state_recovered: bool = False  # an artifact RECOVERED_STATE waits on the server
    directory_kept: bool


class FinishReply(Message):
    """``directive`` is the next wish for the lease: hold after a plan with changes, else end."""

    directive: Directive


class EndedRequest(Message):
    """The process tree is gone. The slot is free once this is committed."""

    directory_kept: bool
    detail: str = Field(default="", max_length=500)


class Problem(BaseModel):
    """RFC 9457 problem document, as every error is answered."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    title: str
    status: int
    detail: str = ""
