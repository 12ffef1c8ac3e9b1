"""Pools, what belongs to them, and who uses which."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from pods_app.states import PoolKind
from tasks_app.models import Project, Task, Workspace
from tasks_app.models.base import Identified
from tasks_app.models.project import AbstractCredential


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
        default=1, help_text="Pods the controller keeps running; not in a static pool."
    )
    max_pods = models.PositiveSmallIntegerField(
        default=10, help_text="Pods it adds at most when there is work; not in a static pool."
    )
    spare_slots = models.PositiveSmallIntegerField(
        default=0, help_text="Free slots kept beyond what there is work for."
    )
    scale_down_delay_seconds = models.PositiveIntegerField(
        default=300, help_text="How long a pod must be idle before it is taken away."
    )
    frozen = models.BooleanField(default=False, editable=False)
    proxy = models.JSONField(
        default=dict, blank=True, help_text="HTTP_PROXY, HTTPS_PROXY, NO_PROXY for its runs."
    )
    ca_bundle = models.TextField(blank=True, help_text="PEM certificates its runs trust.")
    pod_template = models.TextField(
        blank=True,
        help_text="YAML, as Kubernetes' PodTemplateSpec: what differs from Slipway's own pods.",
    )
    trouble = models.CharField(
        max_length=500,
        blank=True,
        editable=False,
        help_text="Why its pods cannot be looked after at present",
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_pool"
            ),
            models.CheckConstraint(condition=Q(slots_per_pod__gte=1), name="pool_has_slots"),
            models.CheckConstraint(
                condition=Q(min_pods__lte=F("max_pods")), name="pool_min_pods_up_to_max_pods"
            ),
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

    @property
    def encryption_context(self) -> str:
        return f"credential/{self.pool_id}/{self.kind}/{self.host}"


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
