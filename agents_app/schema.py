"""The agents' API as data: every message between server and agent, used by both sides.

No Django here: the agent program imports this file without settings. A message is a pydantic
model; unknown fields are refused, so that a field dropped on one side is an error in the
round-trip tests rather than a silent loss.

Transport: JSON over HTTPS below ``/api/agent/v1/``. Every call after registration carries
``Authorization: Bearer <agent token>``; every call below ``leases/<lease_id>/`` also carries
``?epoch=<n>``, and a stale epoch is answered with 409 and has no effect. Every reply carries
the header ``Slipway-Incarnation``.

=====  =====================================  =============================================
POST   register                               :class:`RegisterRequest` -> :class:`RegisterReply`
POST   heartbeat                              :class:`HeartbeatRequest` -> :class:`HeartbeatReply`
POST   work                                   :class:`WorkRequest` -> :class:`WorkReply` (long poll)
GET    leases/<id>/configuration              the configuration version, tar.gz
GET    leases/<id>/artifacts/<kind>           a stored artifact
PUT    leases/<id>/artifacts/<kind>           an :class:`Artifact`, header ``Slipway-Digest``
PUT    leases/<id>/log?phase=&offset=         redacted UTF-8 log bytes -> :class:`LogReply`
POST   leases/<id>/progress                   :class:`ProgressRequest` -> :class:`Empty`
POST   leases/<id>/permit                     :class:`PermitRequest` -> :class:`PermitReply`
POST   leases/<id>/finish                     :class:`FinishRequest` -> :class:`FinishReply`
POST   leases/<id>/ended                      :class:`EndedRequest` -> :class:`Empty`
=====  =====================================  =============================================
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

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
    HOLD = "hold"  # keep the directory, run nothing
    APPLY = "apply"
    CANCEL = "cancel"  # interrupt Terraform once, wait for it, then finish
    KILL = "kill"  # a forced cancel: SIGKILL Terraform's whole session
    END = "end"  # stop what has no permit, remove the directory unless kept, report ended


class Phase(StrEnum):
    """A phase of a task's run, also the name of its log."""

    PLAN = "plan"
    APPLY = "apply"


class Activity(StrEnum):
    """What an agent says a lease is doing."""

    STARTING = "starting"
    PLANNING = "planning"
    HOLDING = "holding"
    PREPARING = "preparing"
    APPLYING = "applying"
    FINISHED = "finished"  # result known to the agent, not yet acknowledged by the server


class Artifact(StrEnum):
    """Contents an agent stores with a lease, encrypted at rest."""

    PLAN_BUNDLE = "plan_bundle"  # tar.gz of plan.out, plan.json, manifest.json, lock file, new files
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

    KEPT = "kept"
    NORMAL = "normal"


# --- registration -------------------------------------------------------------------------


class Engine(Message):
    """A Terraform engine present on an agent."""

    engine: str = Field(pattern="^(terraform|tofu)$")
    version: str


class RegisterRequest(Message):
    """Sent with the pool token. The same ``pod_uid`` registering again gets a new token."""

    pod_name: str = Field(min_length=1, max_length=253)
    pod_uid: str = Field(min_length=1, max_length=64)
    hostname: str
    program_version: str
    engines: list[Engine]
    slots: int = Field(ge=1, le=64)


class RegisterReply(Message):
    """What the agent needs to work. Durations in seconds, sizes in bytes."""

    agent_id: UUID
    agent_token: str
    incarnation: UUID
    base_path: str  # absolute; the same on every agent, because plans can embed paths
    slots: int
    heartbeat_seconds: float
    poll_seconds: float
    bundle_bytes_max: int
    log_bytes_max: int


# --- heartbeat ----------------------------------------------------------------------------


class LeaseReport(Message):
    """An agent's view of one lease it has."""

    lease_id: UUID
    epoch: int
    activity: Activity
    process_alive: bool


class DirectoryReport(Message):
    """A work directory on the agent's disk."""

    workspace_id: UUID
    task_id: UUID
    bytes: int
    last_used_seconds_ago: float
    quarantined: bool = False


class HeartbeatRequest(Message):
    """``newest_lease`` is the newest lease this agent ever had, over restarts: a server that
    does not know it runs on a database older than reality."""

    incarnation: UUID
    newest_lease: UUID | None
    leases: list[LeaseReport]
    directories: list[DirectoryReport]
    deleted_directories: list[UUID]  # task ids whose deletion the server had asked for
    providers: list[str]  # "registry.terraform.io/hashicorp/time 0.14.2"
    engines: list[Engine]
    disk_total_bytes: int
    disk_free_bytes: int
    draining: bool  # the agent was asked by a signal to end


class HeartbeatReply(Message):
    draining: bool  # the server wants this agent to take no new work
    delete_directories: list[UUID]  # task ids
    agent_token: str | None  # a rotated token; the old one works for an overlap


# --- work ---------------------------------------------------------------------------------


class Variable(Message):
    """A Terraform variable, given as ``TF_VAR_<name>``."""

    name: str
    value: str
    hcl: bool
    sensitive: bool


class EnvironmentVariable(Message):
    name: str
    value: str
    sensitive: bool


class Credential(Message):
    """For private modules and registries; written into the run's private HOME only."""

    kind: str = Field(pattern="^(ssh_key|https_token|registry_token)$")
    host: str
    username: str = ""
    secret: str
    known_hosts: str = ""


class StateBackend(Message):
    """Slipway's state, reached by Terraform's http backend. The password is the lease's token."""

    address: str
    username: str
    password: str


class PlanReference(Message):
    """The reviewed plan an apply must be."""

    plan_hash: str = Field(pattern="^[0-9a-f]{64}$")
    manifest_digest: str = Field(pattern="^[0-9a-f]{64}$")
    terraform_version: str
    bundle_stored: bool  # False: too large; applicable only from its kept directory


class Job(Message):
    """Everything an agent needs to plan or apply one task; secrets included, never logged."""

    task_id: UUID
    workspace_id: UUID
    workspace_name: str
    task_type: str  # plan, plan_and_apply, drift_check
    engine: str
    engine_version: str  # exact; a plan is never applied by another version
    working_directory: str  # relative to the configuration's root, "" for the root
    configuration_digest: str  # SHA-256 of the tar.gz
    destroy: bool
    refresh_only: bool
    targets: list[str]
    replace: list[str]
    variables: list[Variable]
    environment: list[EnvironmentVariable]
    credentials: list[Credential]
    proxy: dict[str, str]  # HTTP_PROXY, HTTPS_PROXY, NO_PROXY
    ca_bundle: str  # PEM, "" for the machine's own
    backend: StateBackend | None  # None: the configuration's own backend
    plan: PlanReference | None  # present for an apply
    lock_timeout_seconds: int


class Assignment(Message):
    """The server's wish for one lease. ``job`` comes with ``plan`` and ``apply``."""

    lease_id: UUID
    epoch: int
    task_id: UUID
    workspace_id: UUID
    directive: Directive
    keep_directory: bool  # with ``end``: leave the directory for a successor or the cleanup
    job: Job | None


class KnownAssignment(Message):
    lease_id: UUID
    epoch: int
    directive: Directive


class WorkRequest(Message):
    """``known`` is what the agent already acts upon; the reply comes as soon as the server's
    wishes differ from it, else after ``wait_seconds`` with the unchanged wishes."""

    incarnation: UUID
    known: list[KnownAssignment]
    wait_seconds: float = Field(ge=0, le=60)


class WorkReply(Message):
    """All wishes. An unpermitted lease the agent has and this list lacks must be stopped."""

    assignments: list[Assignment]


# --- a lease's life -----------------------------------------------------------------------


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
    """``key`` makes a repeated request safe: the same key gets the same answer."""

    key: UUID
    plan_hash: str
    manifest_digest: str
    path: ApplyPath


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


class AgentRecord(Message):
    """What an agent remembers of its registration between restarts."""

    agent_id: UUID
    agent_token: str
    incarnation: UUID
    pod_uid: str
    newest_lease: UUID | None = None
    registered_at: datetime | None = None
