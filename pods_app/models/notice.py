"""What operators are told of freezes, and how far each channel has got."""

from django.db import models
from django.db.models import Q

from pods_app.states import NoticeKind
from tasks_app.models.base import Identified


class FreezeNotice(Identified):
    """One message about freezes, the same to every channel."""

    kind = models.CharField(max_length=30, choices=NoticeKind)
    about = models.DateTimeField(help_text="The moment that it tells of")
    subject = models.CharField(max_length=200)
    text = models.TextField()
    data = models.JSONField(default=dict, help_text="The same for programs")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=NoticeKind.values), name="freeze_notice_kind_known"
            )
        ]

    def __str__(self) -> str:
        return self.subject


class NoticeFact(models.Model):
    """A fact that was told. Its key is unique: whoever would tell it once more cannot."""

    key = models.CharField(primary_key=True, max_length=200)
    notice = models.ForeignKey(FreezeNotice, models.CASCADE, related_name="facts")

    def __str__(self) -> str:
        return self.key


class NoticeDelivery(models.Model):
    """A notice on its way to one channel.

    An attempt is claimed before it is made, by counting it and moving ``next_at``: one that dies
    is made again.
    """

    notice = models.ForeignKey(FreezeNotice, models.CASCADE, related_name="deliveries")
    channel = models.CharField(
        max_length=40, help_text="email, or webhook and a digest of its address"
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, help_text="Of the next attempt; empty: it is over")
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True, help_text="Of the last attempt")

    class Meta:
        indexes = [
            models.Index(
                fields=["next_at"],
                name="notice_delivery_due",
                condition=Q(next_at__isnull=False),
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["notice", "channel"], name="notice_once_per_channel"),
            models.CheckConstraint(
                condition=Q(sent_at=None) | Q(next_at=None), name="notice_sent_is_over"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.notice_id} to {self.channel}"
