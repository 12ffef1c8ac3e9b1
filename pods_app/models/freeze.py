"""Freeze windows, overrides, and the history of each pool's freezes."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField, DateRangeField
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q

from pods_app.models.pool import Pool
from pods_app.states import FreezeState
from tasks_app.models.base import ClockTimestamp, Identified


class FreezeWindow(Identified):
    """A time in which pools start nothing and have no pods: weekly, or once.

    Times are those of clocks in ``time_zone``. What they mean as moments is worked out by
    `pods_app.freeze.windows`.
    """

    name = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    ticket = models.CharField(max_length=100, blank=True, help_text="Where it was agreed upon")
    all_pools = models.BooleanField(default=False, help_text="Those to come as well")
    pools = models.ManyToManyField(Pool, blank=True, related_name="freeze_windows")
    enabled = models.BooleanField(default=True)
    time_zone = models.CharField(max_length=64, help_text="IANA name, such as Europe/Berlin")
    weekdays = ArrayField(
        models.PositiveSmallIntegerField(validators=[MaxValueValidator(6)]),
        default=list,
        blank=True,
        help_text="On which days it starts, 0 is Monday. Empty: it is a one-off.",
    )
    start_time = models.TimeField()
    end_time = models.TimeField(null=True, blank=True)
    days_later = models.PositiveSmallIntegerField(
        default=0, help_text="Weekly: how many days after its start it ends; 1 is overnight"
    )
    first_day = models.DateField(null=True, blank=True, help_text="One-off: the day it starts")
    last_day = models.DateField(
        null=True, blank=True, help_text="One-off: the day it ends; empty: when a person ends it"
    )
    until = models.DateField(
        null=True, blank=True, help_text="Weekly: the last day on which it starts; empty: no end"
    )
    exceptions = ArrayField(
        DateRangeField(), default=list, blank=True, help_text="Days on which it does not start"
    )
    lead_minutes = models.PositiveSmallIntegerField(
        default=15, help_text="So long before it, no apply, hold or warm-up starts"
    )
    grace_seconds = models.PositiveSmallIntegerField(
        default=120, help_text="So long before it, running applies are asked to stop"
    )
    # The one occurrence that a person ended early or extended.
    adjusted_start = models.DateTimeField(null=True, editable=False)
    adjusted_end = models.DateTimeField(null=True, editable=False)
    adjusted_reason = models.CharField(max_length=500, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(weekdays__contained_by=[0, 1, 2, 3, 4, 5, 6]),
                name="freeze_weekdays_known",
            ),
            models.CheckConstraint(
                condition=(
                    Q(weekdays__len__gt=0, first_day=None, last_day=None, end_time__isnull=False)
                    | Q(weekdays=[], first_day__isnull=False, days_later=0, until=None)
                ),
                name="freeze_weekly_or_once",
            ),
            models.CheckConstraint(
                condition=(
                    Q(first_day__isnull=False)
                    | Q(days_later__gt=0, days_later__lte=6)
                    | Q(days_later=0, end_time__gt=F("start_time"))
                ),
                name="freeze_weekly_ends_after_start",
            ),
            models.CheckConstraint(
                condition=(
                    Q(first_day=None)
                    | Q(last_day=None, end_time=None)
                    # A comparison with NULL is not false, and would let everything pass.
                    | Q(last_day__isnull=False, end_time__isnull=False)
                    & (
                        Q(last_day__gt=F("first_day"))
                        | Q(last_day=F("first_day"), end_time__gt=F("start_time"))
                    )
                ),
                name="freeze_once_ends_after_start",
            ),
            models.CheckConstraint(
                condition=Q(lead_minutes__lte=1440, grace_seconds__lte=3600),
                name="freeze_lead_and_grace_bounded",
            ),
            models.CheckConstraint(
                condition=(
                    Q(adjusted_start=None, adjusted_end=None, adjusted_reason="")
                    | (
                        Q(adjusted_start__isnull=False, adjusted_end__isnull=False)
                        & ~Q(adjusted_reason="")
                    )
                ),
                name="freeze_adjusted_with_a_reason",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="freeze_window_has_a_reason"),
        ]

    def __str__(self) -> str:
        return self.name


class FreezeOverride(Identified):
    """A person's permission to work in a pool in spite of its windows, for a short time."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="freeze_overrides")
    reason = models.CharField(max_length=500)
    begins_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    expires_at = models.DateTimeField(help_text="Then the pool is frozen again")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        permissions = [("override_by_token", "May override freezes with an API token")]
        indexes = [models.Index(fields=["pool", "-expires_at"], name="freeze_override_live")]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="freeze_override_has_a_reason"),
            models.CheckConstraint(
                condition=Q(expires_at__gte=F("begins_at")), name="freeze_override_expires"
            ),
        ]

    def __str__(self) -> str:
        return f"override in {self.pool}"


class FreezeTransition(Identified):
    """One change of a pool's state. Rows are only ever added: a trigger refuses their update."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="freeze_transitions")
    at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    from_state = models.CharField(max_length=10, choices=FreezeState)
    to_state = models.CharField(max_length=10, choices=FreezeState)
    until = models.DateTimeField(null=True)
    reason = models.CharField(max_length=1000)
    actor = models.CharField(max_length=150)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["pool", "-id"], name="freeze_transition_newest")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(from_state=F("to_state")), name="freeze_transition_changes"
            )
        ]

    def __str__(self) -> str:
        return f"{self.pool}: {self.from_state} to {self.to_state}"
