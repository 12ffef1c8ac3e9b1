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
POST   leases/<id>/warmup                     :class:`WarmupReport` -> :class:`Empty`
POST   leases/<id>/permit                     :class:`PermitRequest` -> :class:`PermitReply`
POST   leases/<id>/finish                     :class:`FinishRequest` -> :class:`FinishReply`
POST   leases/<id>/ended                      :class:`EndedRequest` -> :class:`Empty`
=====  =====================================  =============================================
"""

from agents_app.schema.agent import (
    AgentRecord,
    DirectoryReport,
    Engine,
    HeartbeatReply,
    HeartbeatRequest,
    LeaseReport,
    RegisterReply,
    RegisterRequest,
)
from agents_app.schema.life import (
    Diagnostic,
    EndedRequest,
    FinishReply,
    FinishRequest,
    LogReply,
    PermitReply,
    PermitRequest,
    PlanResult,
    Problem,
    ProgressRequest,
    Step,
    WarmupReport,
)
from agents_app.schema.vocabulary import (
    API_PREFIX,
    DIGEST_HEADER,
    INCARNATION_HEADER,
    Activity,
    ApplyPath,
    Artifact,
    Directive,
    Empty,
    Message,
    Outcome,
    Phase,
)
from agents_app.schema.work import (
    Assignment,
    Credential,
    EnvironmentVariable,
    Job,
    KnownAssignment,
    PlanReference,
    StateBackend,
    Variable,
    WorkReply,
    WorkRequest,
)

__all__ = [
    "API_PREFIX",
    "DIGEST_HEADER",
    "INCARNATION_HEADER",
    "Activity",
    "AgentRecord",
    "ApplyPath",
    "Artifact",
    "Assignment",
    "Credential",
    "Diagnostic",
    "Directive",
    "DirectoryReport",
    "Empty",
    "EndedRequest",
    "Engine",
    "EnvironmentVariable",
    "FinishReply",
    "FinishRequest",
    "HeartbeatReply",
    "HeartbeatRequest",
    "Job",
    "KnownAssignment",
    "LeaseReport",
    "LogReply",
    "Message",
    "Outcome",
    "PermitReply",
    "PermitRequest",
    "Phase",
    "PlanReference",
    "PlanResult",
    "Problem",
    "ProgressRequest",
    "RegisterReply",
    "RegisterRequest",
    "StateBackend",
    "Step",
    "Variable",
    "WarmupReport",
    "WorkReply",
    "WorkRequest",
]
