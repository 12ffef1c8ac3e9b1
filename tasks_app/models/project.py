from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models

from tasks_app.models.base import EncryptedRow, Identified


class Project(Identified):
    """A set of workspaces with roles, variables and credentials of its own."""

    name = models.SlugField(max_length=90, unique=True)
    description = models.TextField(blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoleAssignment(Identified):
    """A group's role in a project, or everywhere when ``project`` is empty."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer: sees everything but secrets and state"
        PLANNER = "planner", "Planner: uploads configurations, plans"
        APPROVER = "approver", "Approver: confirms, discards, cancels, reads state"
        MANAGER = "manager", "Manager: changes workspaces, variables, state and credentials"

    group = models.ForeignKey(Group, models.CASCADE, related_name="slipway_roles")
    project = models.ForeignKey(
        Project,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="roles",
        help_text="Empty: the role holds in every project.",
    )
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group", "project"],
                name="one_role_per_group_and_project",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.group} is {self.role} of {self.project or 'every project'}"


class AbstractCredential(EncryptedRow, Identified):
    """A credential for private modules and registries; its secret is never shown again."""

    ciphertext_field = "secret_ciphertext"

    class Kind(models.TextChoices):
        SSH_KEY = "ssh_key", "SSH key with known_hosts"
        HTTPS_TOKEN = "https_token", "HTTPS token for Git"
        REGISTRY_TOKEN = "registry_token", "Registry token (TF_TOKEN_<host>)"

    kind = models.CharField(max_length=20, choices=Kind)
    host = models.CharField(max_length=253, help_text="For example git.example.com")
    username = models.CharField(max_length=100, blank=True)
    secret_ciphertext = models.BinaryField(editable=False)
    key_id = models.CharField(max_length=32, editable=False)
    known_hosts = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.get_kind_display()} for {self.host}"


class ProjectCredential(AbstractCredential):
    """A credential given to every run of a project."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="credentials")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "kind", "host"], name="one_credential_per_project_and_host"
            )
        ]

    @property
    def encryption_context(self) -> str:
        return f"credential/{self.project_id}/{self.kind}/{self.host}"
