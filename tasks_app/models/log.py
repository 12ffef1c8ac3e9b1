from django.db import models

from tasks_app.models.base import EncryptedRow
from tasks_app.models.task import Task


class LogStream(models.Model):
    """The log of one phase of a task. Offsets count bytes of the redacted stream."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="logs")
    phase = models.CharField(max_length=10)
    lease_id = models.UUIDField(help_text="The lease that writes; a new attempt starts anew")
    size = models.PositiveBigIntegerField(default=0)
    truncated = models.BooleanField(default=False)
    complete = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "phase"], name="log_stream_unique")]


class LogChunk(EncryptedRow, models.Model):
    """Acknowledged log bytes, encrypted; keyed by offset, so that repeats are harmless."""

    ciphertext_field = "ciphertext"

    stream = models.ForeignKey(LogStream, models.CASCADE, related_name="chunks")
    offset = models.PositiveBigIntegerField()
    size = models.PositiveIntegerField()
    ciphertext = models.BinaryField()
    key_id = models.CharField(max_length=32)

    class Meta:
        ordering = ["offset"]
        constraints = [
            models.UniqueConstraint(fields=["stream", "offset"], name="log_chunk_offset_unique")
        ]

    @property
    def encryption_context(self) -> str:
        return f"log/{self.stream_id}/{self.stream.lease_id}/{self.offset}"
