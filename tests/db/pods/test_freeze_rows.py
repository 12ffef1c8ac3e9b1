"""What the database itself refuses of freeze windows."""

from datetime import date, datetime, time

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from pods_app.models import FreezeOverride, FreezeTransition, FreezeWindow
from tests.support.factories import make_pool

pytestmark = pytest.mark.django_db

WEEKLY = {"weekdays": [0], "start_time": time(22), "end_time": time(23)}
ONCE = {
    "weekdays": [],
    "first_day": date(2025, 6, 2),
    "last_day": date(2025, 6, 2),
    "start_time": time(22),
    "end_time": time(23),
}


def create(**fields):
    return FreezeWindow.objects.create(
        **{"name": "w", "reason": "r", "all_pools": True, "time_zone": "Europe/Berlin", **fields}
    )


@pytest.mark.parametrize(
    "fields",
    [
        WEEKLY,
        {**WEEKLY, "until": date(2025, 6, 2)},
        ONCE,
        {**ONCE, "last_day": None, "end_time": None},
    ],
)
def test_sound_windows_are_stored(fields):
    exceptions = [(date(2025, 12, 24), date(2025, 12, 27))]
    row = create(**fields, exceptions=exceptions)
    row.refresh_from_db()
    (skipped,) = row.exceptions
    assert (skipped.lower, skipped.upper) == exceptions[0]


@pytest.mark.parametrize(
    "fields",
    [
        {**WEEKLY, "weekdays": [7]},
        {**WEEKLY, "weekdays": []},
        {**WEEKLY, "end_time": None},
        {**WEEKLY, "end_time": time(22)},
        {**WEEKLY, "end_time": time(21)},
        {**WEEKLY, "days_later": 7},
        {**WEEKLY, "first_day": date(2025, 6, 2)},
        {**ONCE, "end_time": time(22)},
        {**ONCE, "end_time": None},
        {**ONCE, "last_day": date(2025, 6, 1)},
        {**ONCE, "last_day": None},
        {**ONCE, "days_later": 1},
        {**ONCE, "until": date(2025, 6, 2)},
        {**WEEKLY, "reason": ""},
        {**WEEKLY, "lead_minutes": 1441},
        {**WEEKLY, "adjusted_start": datetime.fromisoformat("2025-06-02T20:00+00:00")},
    ],
)
def test_impossible_windows_are_refused(fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        create(**fields)


def test_an_override_expires_and_a_transition_changes_something():
    pool, now = make_pool(), timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        FreezeOverride.objects.create(
            pool=pool, reason="r", begins_at=now, expires_at=now.replace(year=2000)
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        FreezeTransition.objects.create(pool=pool, from_state="open", to_state="open", reason="r")


def test_the_history_of_transitions_is_not_rewritten():
    pool = make_pool()
    row = FreezeTransition.objects.create(
        pool=pool, from_state="open", to_state="frozen", reason="r"
    )
    with pytest.raises(IntegrityError, match="only ever added"), transaction.atomic():
        FreezeTransition.objects.filter(pk=row.pk).update(reason="another")
    row.refresh_from_db()
    assert row.reason == "r"
    pool.delete()
    assert not FreezeTransition.objects.filter(pk=row.pk).exists()
