"""Work: what the server wants of each lease, and the job behind it."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from agents_app.schema.vocabulary import Directive, Message


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
    environment_digest: str  # SHA-256 of what the run is given; its state password is made for it


class Assignment(Message):
    """The server's wish for one lease. ``job`` comes with what has something to run: all but
    ``end``, and the apply of a hold whose job the agent has, which is the same; an agent that
    restarted needs it to stop a run, too."""

    lease_id: UUID
    epoch: int
    task_id: UUID
    workspace_id: UUID
    directive: Directive
    keep_directory: bool  # with ``end``: leave the directory for a successor or the cleanup
    job: Job | None


class KnownAssignment(Message):
    """``environment_digest`` is that of the job the agent has for it, "" without one: a warm-up
    or a hold that has none, or another than the server would give it now, gets a new job."""

    lease_id: UUID
    epoch: int
    directive: Directive
    environment_digest: str = ""


class WorkRequest(Message):
    """``known`` is what the agent already acts upon; the reply comes as soon as the server's
    wishes differ from it, else after ``wait_seconds`` with the unchanged wishes."""

    incarnation: UUID
    known: list[KnownAssignment]
    wait_seconds: float = Field(ge=0, le=60)


class WorkReply(Message):
    """All wishes. An unpermitted lease the agent has and this list lacks must be stopped.

    Or no wishes, but the leases whose warm-up or hold was ``confirmed`` under the job that the
    agent has: it asks for their permits at once, and for the wishes with its next poll.
    """

    assignments: list[Assignment] | None
    confirmed: list[UUID] = []
