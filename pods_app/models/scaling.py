"""What the autoscaler decided."""

from django.db import models
from django.db.models import F, Q

from pods_app.models.pool import Pool
from tasks_app.models.base import ClockTimestamp, Identified


class ScalingDecision(Identified):
    """One change of how many pods a pool wants. Rows are only ever added, and go with age."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="scaling_decisions")
    at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    before = models.PositiveSmallIntegerField(null=True, help_text="Pods wanted until then")
    desired = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=500)
    inputs = models.JSONField(help_text="Demand in slots, limits of the pool, pods it had")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["pool", "-id"], name="scaling_decision_newest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(before=None) | ~Q(before=F("desired")), name="scaling_decision_changes"
            )
        ]

    def __str__(self) -> str:
        return f"{self.pool}: {self.desired} pods"
