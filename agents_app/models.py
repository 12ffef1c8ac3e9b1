"""Who does it: the identity and the tokens of agents."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from agents_app.schema import Artifact
from pods_app.models import Lease, ManagedPod
from tasks_app.models import Blob
from tasks_app.models.base import Identified


class Agent(Identified):
    """An agent program in a pod. Its heartbeat, slots and engines are the pod's."""

    pod = models.OneToOneField(ManagedPod, models.CASCADE, related_name="agent")
    hostname = models.CharField(max_length=253)
    program_version = models.CharField(max_length=40)
    registered_at = models.DateTimeField(db_default=Now())
    registration_key = models.UUIDField(
        null=True, help_text="The agent's own: whoever repeats a registration has it too"
    )

    def __str__(self) -> str:
        return self.pod.pod_name


class AgentToken(Identified):
    """An agent's bearer token; only the hash is stored. Rotated with an overlap."""

    agent = models.ForeignKey(Agent, models.CASCADE, related_name="tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)


class LeaseArtifact(Identified):
    """A content an agent stored with its lease, before the phase's end says what it means.

    The blob goes with the plan's retention; this row goes with the blob.
    """

    lease = models.ForeignKey(Lease, models.CASCADE, related_name="artifacts")
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in Artifact])
    blob = models.ForeignKey(Blob, models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["lease", "kind"], name="one_artifact_per_lease_and_kind"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.lease}"


class Listening(models.Model):
    """The one row that says since when some web process could hear agents, without a gap.

    Web processes write it every few seconds, in database time. An agent's silence counts only
    for as long as somebody listened: not over an outage of server or database, nor over a jump
    of the database's clock.
    """

    singleton = models.BooleanField(primary_key=True, default=True)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(singleton=True), name="one_listening")]
