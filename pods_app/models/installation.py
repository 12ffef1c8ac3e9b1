"""Which incarnation of the database this is."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tasks_app.ids import uuid7


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
    owner = models.UUIDField(
        default=uuid7, help_text="Marks what it owns outside the database; never changes"
    )

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(singleton=True), name="one_installation")]
