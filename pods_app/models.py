"""Where there is room: pools, pods, slots, leases, permits, work directories."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pods_app.states import (
    DirectoryState,
    LeasePhase,
    LeaseState,
    PodPhase,
    PoolKind,
    SlotStatus,
)
from tasks_app.ids import uuid7
from tasks_app.models import Project, Task, Workspace
from tasks_app.models.base import Identified
from tasks_app.models.project import AbstractCredential


class Installation(models.Model):
    """The one row that says which incarnation of the database this is.

    ``doubt`` is set when an agent knows of a lease that this database does not: the database
    is older than reality, and no permit is granted until `begin_incarnation`.
    """

    singleton = models.BooleanField(primary_key=True, default=True)
    incarnation = models.UUIDField(default=uuid7)
    former = models.JSONField(default=list, help_text="The incarnations before this one")
    began_at = models.DateTimeField(db_default=Now())
    doubt = models.TextField(blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(singleton=True), name="one_installation")]


class Pool(Identified):
    """A set of pods that run the tasks of certain projects."""

    name = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=PoolKind, default=PoolKind.STATIC)
    is_default = models.BooleanField(default=False)
    projects = models.ManyToManyField(
        Project,
        blank=True,
        related_name="pools",
        help_text="The projects that may use it. Empty: every project.",
    )
    slots_per_pod = models.PositiveSmallIntegerField(default=3)
    min_pods = models.PositiveSmallIntegerField(
        default=1, help_text="Pods the controller keeps running in a pool of local processes."
    )
    frozen = models.BooleanField(default=False, editable=False)
    proxy = models.JSONField(
        default=dict, blank=True, help_text="HTTP_PROXY, HTTPS_PROXY, NO_PROXY for its runs."
    )
    ca_bundle = models.TextField(blank=True, help_text="PEM certificates its runs trust.")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_pool"
            ),
            models.CheckConstraint(condition=Q(slots_per_pod__gte=1), name="pool_has_slots"),
        ]

    def __str__(self) -> str:
        return self.name


class PoolCredential(AbstractCredential):
    """A credential given to every run in a pool."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="credentials")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["pool", "kind", "host"], name="one_credential_per_pool_and_host"
            )
        ]


class PoolToken(Identified):
    """Lets agents register in a pool. Only the hash is stored."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )

    def __str__(self) -> str:
        return self.name


class PoolAssignment(models.Model):
    """The pool of a workspace; without one it uses the default pool."""

    workspace = models.OneToOneField(
        Workspace, models.CASCADE, primary_key=True, related_name="pool_assignment"
    )
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="assignments")


class TaskPlacement(models.Model):
    """The pool a task was created for."""

    task = models.OneToOneField(Task, models.CASCADE, primary_key=True, related_name="placement")
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="placements")


class ManagedPod(Identified):
    """A pod and the agent in it: a process on this machine, or one started by hand."""

    pool = models.ForeignKey(Pool, models.PROTECT, related_name="pods")
    pod_name = models.CharField(max_length=253)
    pod_uid = models.CharField(max_length=64)
    kind = models.CharField(max_length=10, choices=PoolKind)
    phase = models.CharField(max_length=10, choices=PodPhase, default=PodPhase.STARTING)
    phase_reason = models.CharField(max_length=500, blank=True)
    agent_id = models.CharField(max_length=50, blank=True, db_index=True)
    draining = models.BooleanField(default=False, help_text="An operator or the scaler said so")
    ending = models.BooleanField(
        default=False, help_text="Its agent was asked to end; over when it registers again"
    )
    slot_limit = models.PositiveSmallIntegerField(
        default=3, help_text="Slots its agent offers; slots beyond take no new work"
    )
    last_heartbeat = models.DateTimeField(null=True)
    engines = models.JSONField(default=list, help_text="[{engine, version}] the agent has")
    providers = models.JSONField(default=list, help_text="In the agent's mirror")
    disk_total_bytes = models.PositiveBigIntegerField(null=True)
    disk_free_bytes = models.PositiveBigIntegerField(null=True)
    host = models.CharField(max_length=253, blank=True, help_text="Machine of a local process")
    process_id = models.PositiveIntegerField(null=True, help_text="Of a local process")
    last_launch_at = models.DateTimeField(null=True)
    failed_launches = models.PositiveSmallIntegerField(
        default=0, help_text="How often in a row the process ended soon after its start"
    )
    process_started = models.CharField(max_length=40, blank=True, help_text="Against pid reuse")

    class Meta:
        ordering = ["pod_name"]
        verbose_name = "pod"
        constraints = [
            models.UniqueConstraint(fields=["pool", "pod_uid"], name="pod_uid_unique_in_pool"),
            models.UniqueConstraint(
                fields=["pool", "pod_name"],
                condition=~Q(phase=PodPhase.GONE),
                name="pod_name_unique_in_pool",
            ),
        ]

    def __str__(self) -> str:
        return self.pod_name


class PodSlot(models.Model):
    """One place for work in a pod: the one source of truth for occupancy."""

    pod = models.ForeignKey(ManagedPod, models.CASCADE, related_name="slots")
    slot_id = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10, choices=SlotStatus, default=SlotStatus.IDLE)
    task = models.ForeignKey(Task, models.PROTECT, null=True, related_name="slots")
    task_type = models.CharField(max_length=15, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["pod", "slot_id"]
        verbose_name = "slot"
        constraints = [
            models.UniqueConstraint(fields=["pod", "slot_id"], name="slot_unique_in_pod"),
            models.CheckConstraint(
                condition=Q(status=SlotStatus.IDLE, task=None)
                | (~Q(status=SlotStatus.IDLE) & Q(task__isnull=False)),
                name="slot_occupied_by_a_task_or_idle",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pod}/{self.slot_id}"


class Lease(Identified):
    """One stay of a task in a slot: plan -> hold -> apply, or apply alone elsewhere.

    A new epoch arises only with a new slot. Every write of the agent carries both.
    """

    task = models.ForeignKey(Task, models.PROTECT, related_name="leases")
    slot = models.ForeignKey(PodSlot, models.PROTECT, related_name="leases")
    epoch = models.PositiveIntegerField()
    phase = models.CharField(max_length=10, choices=LeasePhase)
    state = models.CharField(max_length=10, choices=LeaseState, default=LeaseState.LIVE)
    keep_directory = models.BooleanField(default=True)
    phase_at = models.DateTimeField(db_default=Now(), help_text="Since when in this phase")
    delivered_at = models.DateTimeField(null=True, help_text="The agent has this phase's work")
    reported_at = models.DateTimeField(null=True, help_text="The agent last named it")
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=250, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["task"], condition=~Q(state=LeaseState.ENDED), name="one_lease_per_task"
            ),
            models.UniqueConstraint(
                fields=["slot"], condition=~Q(state=LeaseState.ENDED), name="one_lease_per_slot"
            ),
            models.UniqueConstraint(fields=["task", "epoch"], name="lease_epoch_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.task} in {self.slot}, epoch {self.epoch}"


class ApplyPermit(models.Model):
    """The one permission to apply a task's plan. Granted once, ever."""

    task = models.OneToOneField(Task, models.PROTECT, primary_key=True, related_name="permit")
    lease = models.OneToOneField(Lease, models.PROTECT, related_name="permit")
    key = models.UUIDField(help_text="The agent's; the same key gets the same answer")
    plan_hash = models.CharField(max_length=64)
    manifest_digest = models.CharField(max_length=64)
    path = models.CharField(max_length=10)
    state_lineage = models.CharField(max_length=64, blank=True)
    state_serial = models.PositiveBigIntegerField(null=True)
    state_verified = models.BooleanField(help_text="False: a foreign backend")
    granted_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()


class WorkDirectory(Identified):
    """A task's directory on an agent's disk, as the agent reported it."""

    task = models.ForeignKey(Task, models.PROTECT, related_name="work_directories")
    pod = models.ForeignKey(ManagedPod, models.CASCADE, related_name="work_directories")
    path = models.CharField(max_length=1000)
    bytes = models.PositiveBigIntegerField(default=0)
    state = models.CharField(max_length=12, choices=DirectoryState, default=DirectoryState.KEPT)
    last_used_at = models.DateTimeField(db_default=Now())
    reported_at = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=250, blank=True, help_text="Why it is kept or deleted")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "work directories"
        constraints = [
            models.UniqueConstraint(
                fields=["task", "pod"],
                condition=~Q(state=DirectoryState.DELETED),
                name="one_directory_per_task_and_pod",
            )
        ]
