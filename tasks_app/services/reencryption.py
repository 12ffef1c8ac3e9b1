"""Re-encryption after a key rotation: every row under the ring's first key.

Rows are taken in batches under their own locks, never waited for: what somebody else holds is
taken on a later pass. So it runs beside everything else, may be killed at any time, and goes on
where it stopped when it is called again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import Count, Model, QuerySet

from tasks_app.actors import Actor
from tasks_app.exceptions import DecryptionFailed
from tasks_app.keyring import keyring
from tasks_app.models import LogChunk, Task
from tasks_app.models.base import EncryptedRow
from tasks_app.states import FINAL, Status
from tasks_app.transitions import record

#: Rows at once; the largest are 1 MiB.
_BATCH = 20
#: How often a table is gone through again for the rows that others held.
_PASSES = 3
_EXAMPLES = 5


@dataclass
class TableReport:
    """One table's part: ``keys`` counts its rows by key id, as they are afterwards.

    ``examples`` are the ids of the first rows that could not be read.
    """

    table: str
    reencrypted: int = 0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)


@dataclass
class Report:
    """What was done and what is left.

    ``keys`` counts the rows of all tables by key id. ``removable`` are the keys of the ring that
    no row names. ``runs`` go on: their state tokens may be signed with an older key.
    """

    primary: str
    dry_run: bool
    tables: list[TableReport]
    runs: int
    keys: dict[str, int] = field(default_factory=dict)
    removable: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows that name another key than the primary one."""
        return sum(count for key, count in self.keys.items() if key != self.primary)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "left": self.left}


def encrypted_models() -> list[type[Model]]:
    """Return every model with a ciphertext, of all apps."""
    return [model for model in apps.get_models() if issubclass(model, EncryptedRow)]


def reencrypt(
    *, dry_run: bool = False, progress: Callable[[str, int], None] = lambda table, rows: None
) -> Report:
    """Encrypt every row that names another key anew under the primary one.

    A row that cannot be read stays as it is and is reported.

    Args:
        progress: called with a table and the number of its rows done so far.
    """
    ring = keyring()
    tables = [_reencrypt_table(model, dry_run, progress) for model in encrypted_models()]
    keys: Counter[str] = Counter(dict.fromkeys(ring.key_ids, 0))
    for table in tables:
        keys.update(table.keys)
    report = Report(
        primary=ring.primary,
        dry_run=dry_run,
        tables=tables,
        runs=Task.objects.exclude(status__in=[*FINAL, Status.PENDING]).count(),
        keys=dict(keys),
        removable=[key for key in ring.key_ids if key != ring.primary and not keys[key]],
    )
    if done := {table.table: table.reencrypted for table in tables if table.reencrypted}:
        record(
            "keys.reencrypted",
            actor=Actor.system("reencrypt"),
            data={"key": ring.primary, "rows": done},
        )
    return report


def _reencrypt_table(
    model: type[Model], dry_run: bool, progress: Callable[[str, int], None]
) -> TableReport:
    report = TableReport(model._meta.db_table)
    if not dry_run:
        for _ in range(_PASSES):
            report.unreadable, report.examples = 0, []
            _pass(model, report, progress)
            if _outdated(model).count() == report.unreadable:
                break
    counted = model._default_manager.values_list("key_id").annotate(rows=Count("pk"))
    report.keys = dict(counted.order_by("key_id"))
    return report


def _outdated(model: type[Model]) -> QuerySet[Any]:
    return model._default_manager.exclude(key_id=keyring().primary)


def _pass(model: type[Model], report: TableReport, progress: Callable[[str, int], None]) -> None:
    last = None
    while True:
        with transaction.atomic():
            rows = _outdated(model).order_by("pk")
            if last is not None:
                rows = rows.filter(pk__gt=last)
            if model is LogChunk:
                rows = rows.select_related("stream")
            batch = list(
                rows.select_for_update(of=("self",), no_key=True, skip_locked=True)[:_BATCH]
            )
            for row in batch:
                _reencrypt_row(row, report)
        if not batch:
            return
        last = batch[-1].pk
        progress(report.table, report.reencrypted)


def _reencrypt_row(row: Any, report: TableReport) -> None:
    ring = keyring()
    try:
        ring.encrypt_row(row, ring.decrypt_row(row))
    except DecryptionFailed:
        report.unreadable += 1
        if report.unreadable <= _EXAMPLES:
            report.examples.append(str(row.pk))
    else:
        row.save(update_fields=[row.ciphertext_field, "key_id"])
        report.reencrypted += 1
