"""Which look-aheads are due, whenever somebody looks."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pods_app.freeze.notices.ahead import due, key
from pods_app.freeze.windows import Window, occurrences
from pods_app.states import NoticeKind as Kind

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2025, 3, 3, 21, tzinfo=UTC)


def window(**fields):
    usual = {
        "id": 1,
        "name": "nightly",
        "reason": "quiet",
        "zone": "Europe/Berlin",
        "weekdays": frozenset(range(7)),
        "start": time(22),
        "end": time(6),
        "days_later": 1,
    }
    return Window(**{**usual, **fields})


def once(**fields):
    day = {"weekdays": frozenset(), "days_later": 0, "first_day": date(2025, 3, 3)}
    return window(**{**day, "last_day": date(2025, 3, 4), **fields})


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        (25 * HOUR, None),
        (24 * HOUR + timedelta(microseconds=1), None),
        (24 * HOUR, Kind.DAY_AHEAD),
        (3 * HOUR, Kind.DAY_AHEAD),
        (HOUR + MINUTE, Kind.DAY_AHEAD),
        (HOUR, Kind.HOUR_AHEAD),
        (16 * MINUTE, Kind.HOUR_AHEAD),
        (15 * MINUTE, Kind.QUARTER_AHEAD),
        (timedelta(microseconds=1), Kind.QUARTER_AHEAD),
        (timedelta(), None),
        (-MINUTE, None),
        (-9 * HOUR, None),
    ],
)
def test_what_is_due_so_long_before_the_start(before, kind):
    assert [one for one, _ in due([once()], START - before)] == ([kind] if kind else [])


def test_every_occurrence_is_told_apart_from_the_next():
    # A day with 25 hours lies between: the day after is not within 24 hours yet.
    found = list(due([window()], datetime(2025, 10, 25, 20, tzinfo=UTC) - 15 * MINUTE))
    assert [one for one, _ in found] == [Kind.QUARTER_AHEAD]


def test_without_an_end_until_a_person_ends_it():
    ((kind, interval),) = due([once(end=None, last_day=None)], START - HOUR)
    assert key(kind, interval) == "freeze.in_1_hour:1:2025-03-03T21:00:00+00:00:open"


def test_what_cannot_be_read_hides_no_other():
    assert len(list(due([window(zone="Mars/Olympus"), once()], START - HOUR))) == 1


def test_an_exception_is_no_occurrence():
    day = date(2025, 3, 3)
    assert not [
        one
        for _, one in due([window(exceptions=((day, day),))], START - 14 * MINUTE)
        if one.start == START
    ]


def test_another_end_makes_it_another():
    keys = {
        key(kind, interval)
        for end in (time(6), time(7))
        for kind, interval in due([once(end=end)], START - HOUR)
    }
    assert len(keys) == 2


@given(
    st.lists(st.integers(1, 44), min_size=1, max_size=400),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    st.sampled_from([date(2025, 3, 28), date(2025, 4, 4), date(2025, 10, 24), date(2025, 3, 7)]),
)
def test_passes_within_45_minutes_tell_each_kind_once(steps, zone, day):
    """Whatever the times of the passes: once each, never too early, never late."""
    rule, now = window(zone=zone), datetime.combine(day, time(), UTC)
    first, told = now, {}
    for step in steps:
        for kind, interval in due([rule], now):
            told.setdefault(interval.start, {}).setdefault(key(kind, interval), []).append(now)
            assert interval.start > now
        now += step * MINUTE
    last = now - steps[-1] * MINUTE
    for interval in occurrences(rule, first + DAY, last):
        if first + DAY < interval.start <= last:
            kinds = [found.partition(":")[0] for found in told[interval.start]]
            assert kinds == [Kind.DAY_AHEAD, Kind.HOUR_AHEAD, Kind.QUARTER_AHEAD]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60))
def test_passes_at_any_times_never_tell_a_longer_time_after_a_shorter(minutes):
    order = [Kind.DAY_AHEAD, Kind.HOUR_AHEAD, Kind.QUARTER_AHEAD]
    told = []
    for minute in sorted(minutes):
        found = [kind for kind, _ in due([once()], START - 2 * DAY + minute * MINUTE)]
        assert len(found) <= 1
        told += [kind for kind in found if kind not in told]
    assert told == [kind for kind in order if kind in told]
