from django.db import models

from tasks_app.models.base import EncryptedRow, Identified


class Blob(Identified):
    """A large encrypted content. Its bytes lie in :class:`BlobChunk`, never in lists."""

    class Retention(models.TextChoices):
        CONFIGURATION = "configuration", "Configuration"
        PLAN = "plan", "Plan"
        STATE = "state", "State"

    retention = models.CharField(max_length=15, choices=Retention)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the plain content")
    size = models.PositiveBigIntegerField(help_text="Bytes of the plain content")

    class Meta:
        indexes = [models.Index(fields=["retention", "created_at"], name="blob_retention_age")]

    def __str__(self) -> str:
        return f"{self.retention} {self.id}"


class BlobChunk(EncryptedRow, models.Model):
    """At most 1 MiB of a blob, AES-GCM with blob id and number as associated data."""

    ciphertext_field = "ciphertext"

    blob = models.ForeignKey(Blob, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    ciphertext = models.BinaryField()
    # Each chunk's own: it changes with the ciphertext while others read the blob.
    key_id = models.CharField(max_length=32, help_text="Key of the ring it is encrypted with")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["blob", "number"], name="blob_chunk_number_unique")
        ]

    @property
    def encryption_context(self) -> str:
        return f"{self.blob_id}/{self.number}"
