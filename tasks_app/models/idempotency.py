from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from tasks_app.models.base import EncryptedRow


class IdempotencyKey(EncryptedRow, models.Model):
    """A client's ``Idempotency-Key`` with the answer it got (IETF draft 07)."""

    ciphertext_field = "body_ciphertext"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    status = models.PositiveSmallIntegerField()
    body_ciphertext = models.BinaryField()
    key_id = models.CharField(max_length=32)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_unique")
        ]

    @property
    def encryption_context(self) -> str:
        return f"idempotency/{self.user_id}/{self.key}"
