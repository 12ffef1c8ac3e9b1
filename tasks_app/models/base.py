"""What several models share."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tasks_app.ids import uuid7


class ClockTimestamp(models.Func):
    """The database's wall clock at this moment, not at the start of the transaction."""

    function = "clock_timestamp"
    output_field = models.DateTimeField()


def columns(model: type[models.Model], table: str) -> str:
    """Return the columns of ``model`` for a SELECT in plain SQL, each with ``table`` before it.

    Instead of ``*``, which a prepared statement does not survive when a migration adds a column.
    """
    return ", ".join(f"{table}.{field.column}" for field in model._meta.concrete_fields)


class LongNameIndex(models.Index):
    """An index whose name may have PostgreSQL's 63 characters instead of Django's 30."""

    max_name_length = 63


class EncryptedRow:
    """A model with a ciphertext; its column ``key_id`` names the key of the ring."""

    ciphertext_field: ClassVar[str]

    @property
    def encryption_context(self) -> str:
        """What the ciphertext is bound to: moved to another row it is refused."""
        raise NotImplementedError


class Identified(models.Model):
    """A row with a UUIDv7 and its time of creation in database time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True
