"""The agent itself: registration and heartbeats."""

from __future__ import annotations

from uuid import UUID, uuid4

from pydantic import Field

from agents_app.schema.vocabulary import Activity, Message

#: Versions that can be compared: 1.11.4, 1.12.0-beta1, 1.12.0-rc.1, 1.9.0+ent.
VERSION = (
    r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}"
    r"(-(alpha|beta|rc|dev)\.?[0-9]{0,12})?(\+[a-z0-9]{1,20})?$"
)


class Engine(Message):
    """A Terraform engine present on an agent."""

    engine: str = Field(pattern="^(terraform|tofu)$")
    version: str = Field(pattern=VERSION)


class RegisterRequest(Message):
    """Sent with the pool token, or with that of a pod's service account.

    The same ``pod_uid`` registering again gets a new token. In a cluster the UID alone proves
    nothing: only the agent that has the ``registration_key`` of the first time may.
    """

    pod_name: str = Field(min_length=1, max_length=253)
    pod_uid: str = Field(min_length=1, max_length=64)
    registration_key: UUID
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
    hold_bytes_max: int  # memory that held applies may use together


class LeaseReport(Message):
    """An agent's view of one lease it has."""

    lease_id: UUID
    epoch: int
    activity: Activity
    process_alive: bool
    permitted: bool = False  # its apply permit was granted


class DirectoryReport(Message):
    """A work directory on the agent's disk."""

    workspace_id: UUID
    task_id: UUID
    bytes: int
    last_used_seconds_ago: float
    quarantined: bool = False


class HeartbeatRequest(Message):
    """``newest_lease`` is the newest lease this agent ever had, over restarts, and
    ``newest_permit`` the newest whose apply was permitted: a server that does not know the one
    or the permit of the other runs on a database older than reality."""

    incarnation: UUID
    newest_lease: UUID | None
    newest_permit: UUID | None = None
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


class AgentRecord(Message):
    """What an agent remembers on its own disk between restarts."""

    pod_uid: str
    registration_key: UUID = Field(default_factory=uuid4)  # made once, before it registers
    incarnation: UUID | None = None
    newest_lease: UUID | None = None
    newest_permit: UUID | None = None
    registration: RegisterReply | None = None
