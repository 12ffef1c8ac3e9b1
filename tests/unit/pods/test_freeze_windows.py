"""Freeze windows against a slow oracle that walks through time minute by minute."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pods_app.freeze.state import MERGE, Freeze, Override, State, state_at
from pods_app.freeze.windows import UnreadableWindow, is_zone, occurrences, upcoming
from tests.support.freeze_rules import moment, window

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
#: Days around which clocks change; nothing changes in India.
CHANGES = {
    "Europe/Berlin": [date(2025, 3, 30), date(2025, 10, 26)],
    "America/New_York": [date(2025, 3, 9), date(2025, 11, 2)],
    "Asia/Kolkata": [date(2025, 3, 30), date(2024, 2, 29)],
    "Australia/Lord_Howe": [date(2025, 4, 6), date(2025, 10, 5)],
}
#: What the oracle looks at, in days around the change.
BEFORE, AFTER = 10, 9


# --- the oracle ---------------------------------------------------------------------------


@lru_cache(maxsize=16)
def minutes(zone, day):
    """Every minute around a day, with what clocks show."""
    first = datetime.combine(day - BEFORE * DAY, time(), UTC)
    all_of_them = [first + n * MINUTE for n in range((BEFORE + AFTER) * 1440)]
    return [(one, one.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for one in all_of_them]


def near(walk, wall):
    """Only the minutes within a day and a half of a wall clock time, for speed."""
    index = int((wall - walk[0][0].replace(tzinfo=None)) / MINUTE)
    return walk[max(index - 2160, 0) : index + 2160]


def oracle_interval(rule, walk, day):
    """First minute that shows or passes the start; last that shows the end, or the first past."""
    start, end = datetime.combine(day, rule.start), datetime.combine(day, rule.end)
    end += rule.days_later * DAY
    begins = next(one for one, wall in near(walk, start) if wall >= start)
    shown = [one for one, wall in near(walk, end) if wall == end]
    ends = shown[-1] if shown else next(one for one, wall in near(walk, end) if wall > end)
    return begins, ends


def oracle(rules, base):
    """The set of frozen minutes, short openings merged."""
    frozen = set()
    for rule in rules:
        walk = minutes(rule.zone, base)
        for offset in range(-8, 4):
            day = base + offset * DAY
            if day.weekday() not in rule.weekdays:
                continue
            if any(first <= day <= last for first, last in rule.exceptions):
                continue
            if rule.until is not None and day > rule.until:
                continue
            begins, ends = oracle_interval(rule, walk, day)
            frozen.update(begins + n * MINUTE for n in range((ends - begins) // MINUTE))
    gap = []
    seen = False
    for one, _ in minutes(rules[0].zone, base):
        if one not in frozen:
            gap.append(one)
            continue
        if seen and len(gap) * MINUTE < MERGE:
            frozen.update(gap)
        gap, seen = [], True
    return frozen


# --- windows as Hypothesis makes them -------------------------------------------------------

_times = st.one_of(
    st.builds(time, st.integers(0, 4), st.sampled_from([0, 1, 15, 29, 30, 31, 45, 59])),
    st.builds(time, st.integers(0, 23), st.integers(0, 59)),
)


@st.composite
def rules(draw, zone, base):
    start, end = draw(_times), draw(_times)
    later = draw(st.sampled_from([0, 0, 1, 1, 2]))
    if later == 0 and end <= start:
        start, end = (end, start) if start != end else (time(0), time(4))
    days = draw(st.sets(st.integers(0, 6), min_size=1))
    skipped = draw(st.lists(st.integers(-3, 3), max_size=2, unique=True))
    return window(
        zone,
        start=start,
        end=end,
        days_later=later,
        weekdays=frozenset(days),
        until=draw(st.one_of(st.none(), st.integers(-3, 3).map(lambda n: base + n * DAY))),
        exceptions=tuple((base + n * DAY, base + n * DAY) for n in skipped),
        lead=timedelta(minutes=draw(st.sampled_from([0, 0, 15, 60]))),
    )


@st.composite
def schedules(draw):
    zone = draw(st.sampled_from(sorted(CHANGES)))
    base = draw(st.sampled_from(CHANGES[zone])) + draw(st.integers(-1, 1)) * DAY
    zones = [zone, draw(st.sampled_from([zone, *sorted(CHANGES)]))]
    many = draw(st.integers(1, 2))
    return [draw(rules(zones[n], base)) for n in range(many)], base


@settings(max_examples=120, deadline=None)
@given(schedules(), st.lists(st.integers(0, 3 * 1440), min_size=30, max_size=30))
def test_the_state_is_that_of_the_oracle(schedule, samples):
    """At random minutes, and at both sides of every edge, with its beginning and end."""
    windows, base = schedule
    frozen = oracle(windows, base)
    first = datetime.combine(base - DAY, time(), UTC)
    span = [first + n * MINUTE for n in range(3 * 1440)]
    edges = [one for one in span if (one in frozen) != (one - MINUTE in frozen)]
    chosen = [first + n * MINUTE for n in samples] + edges + [one - MINUTE for one in edges]
    for now in chosen:
        found = state_at(now, windows)
        assert (found.state == State.FROZEN) == (now in frozen), (now, windows)
        if found.state != State.FROZEN:
            continue
        if found.since > first - 7 * DAY:
            assert found.since in frozen and found.since - MINUTE not in frozen
        if found.until is not None and found.until < first + 5 * DAY:
            assert found.until not in frozen and found.until - MINUTE in frozen


@settings(max_examples=60, deadline=None)
@given(schedules(), st.lists(st.integers(0, 3 * 1440), min_size=20, max_size=20))
def test_a_pool_closes_for_the_lead_time_and_no_longer(schedule, samples):
    windows, base = schedule
    first = datetime.combine(base - DAY, time(), UTC)
    starts = [
        (one.start, one.window) for w in windows for one in occurrences(w, first, first + 9 * DAY)
    ]
    for now in (first + n * MINUTE for n in samples):
        found = state_at(now, windows)
        leads = any(start - w.lead <= now < start for start, w in starts)
        assert found.state == State.FROZEN or (found.state == State.CLOSING) == leads
        if found.state == State.CLOSING:
            assert found.until == min(s for s, w in starts if s - w.lead <= now < s)
            assert state_at(found.until, windows).state == State.FROZEN
            assert state_at(found.until, windows).until == found.frozen_until


# --- single cases, as people would write them down ------------------------------------------


@pytest.mark.parametrize(
    ("zone", "start", "end", "day", "begins", "ends"),
    [
        # The gap of Berlin, 2:00 to 3:00: a start in it, an end in it, one around it.
        ("Europe/Berlin", time(2, 30), time(5), "2025-03-30", "01:00", "03:00"),
        ("Europe/Berlin", time(1), time(2, 30), "2025-03-30", "00:00", "01:00"),
        ("Europe/Berlin", time(1), time(4), "2025-03-30", "00:00", "02:00"),
        # The hour that Berlin has twice, 2:00 to 3:00: the first start, the last end.
        ("Europe/Berlin", time(2, 30), time(5), "2025-10-26", "00:30", "04:00"),
        ("Europe/Berlin", time(1), time(2, 30), "2025-10-26", "23:00", "01:30"),
        ("Europe/Berlin", time(2, 10), time(2, 20), "2025-10-26", "00:10", "01:20"),
        # New York: 2:00 to 3:00 is skipped, 1:00 to 2:00 is there twice.
        ("America/New_York", time(2, 30), time(5), "2025-03-09", "07:00", "09:00"),
        ("America/New_York", time(1, 30), time(1, 45), "2025-11-02", "05:30", "06:45"),
        # Half an hour: 2:00 to 2:30 is skipped, 1:30 to 2:00 is there twice.
        ("Australia/Lord_Howe", time(2, 15), time(5), "2025-10-05", "15:30", "18:00"),
        ("Australia/Lord_Howe", time(1, 45), time(1, 50), "2025-04-06", "14:45", "15:20"),
        ("Asia/Kolkata", time(9), time(10), "2025-03-30", "03:30", "04:30"),
    ],
)
def test_clock_changes_make_the_interval_wide(zone, start, end, day, begins, ends):
    rule = window(zone, start=start, end=end, days_later=0)
    noon = datetime.combine(date.fromisoformat(day), time(12), ZoneInfo(zone))
    (found,) = [
        one
        for one in occurrences(rule, noon - DAY, noon + DAY)
        if one.start.astimezone(ZoneInfo(zone)).date() == noon.date()
    ]
    assert (f"{found.start:%H:%M}", f"{found.end:%H:%M}") == (begins, ends)


@pytest.mark.parametrize(
    ("zone", "evening", "end", "begins", "ends"),
    [
        # From 22:00 over the change to the morning: as long as the night really is.
        ("Europe/Berlin", "2025-03-29", time(6), "03-29 21:00", "03-30 04:00"),
        ("Europe/Berlin", "2025-10-25", time(6), "10-25 20:00", "10-26 05:00"),
        ("America/New_York", "2025-03-08", time(6), "03-09 03:00", "03-09 10:00"),
        ("America/New_York", "2025-11-01", time(6), "11-02 02:00", "11-02 11:00"),
        ("Australia/Lord_Howe", "2025-10-04", time(6), "10-04 11:30", "10-04 19:00"),
        ("Australia/Lord_Howe", "2025-04-05", time(6), "04-05 11:00", "04-05 19:30"),
        ("Asia/Kolkata", "2025-03-29", time(6), "03-29 16:30", "03-30 00:30"),
        # To a time in the gap, and to one that is there twice.
        ("Europe/Berlin", "2025-03-29", time(2, 30), "03-29 21:00", "03-30 01:00"),
        ("Europe/Berlin", "2025-10-25", time(2, 30), "10-25 20:00", "10-26 01:30"),
        ("America/New_York", "2025-03-08", time(2, 30), "03-09 03:00", "03-09 07:00"),
        ("America/New_York", "2025-11-01", time(1, 30), "11-02 02:00", "11-02 06:30"),
        ("Australia/Lord_Howe", "2025-10-04", time(2, 15), "10-04 11:30", "10-04 15:30"),
        ("Australia/Lord_Howe", "2025-04-05", time(1, 45), "04-05 11:00", "04-05 15:15"),
    ],
)
def test_a_night_in_which_clocks_change(zone, evening, end, begins, ends):
    rule = window(zone, start=time(22), end=end, days_later=1)
    first = datetime.fromisoformat(f"2025-{begins}+00:00")
    last = datetime.fromisoformat(f"2025-{ends}+00:00")
    assert first.astimezone(ZoneInfo(zone)).date() == date.fromisoformat(evening)
    tick = timedelta(microseconds=1)
    states = [state_at(one, [rule]) for one in (first - tick, first, last - tick, last)]
    assert [one.state == State.FROZEN for one in states] == [False, True, True, False]
    assert [(one.since, one.until) for one in states[1:3]] == [(first, last)] * 2


def test_what_the_clock_skips_altogether_does_not_happen():
    rule = window(start=time(2, 10), end=time(2, 50), days_later=0)
    around = (
        moment("Europe/Berlin", "2025-03-30T00:00"),
        moment("Europe/Berlin", "2025-03-30T23:00"),
    )
    assert list(occurrences(rule, *around)) == []


def test_the_start_belongs_to_it_and_the_end_does_not():
    rule = window()
    start, end = moment(rule.zone, "2025-06-02T22:00"), moment(rule.zone, "2025-06-03T06:00")
    tick = timedelta(microseconds=1)
    states = [state_at(one, [rule]).state for one in (start - tick, start, end - tick, end)]
    assert states == [State.OPEN, State.FROZEN, State.FROZEN, State.OPEN]


def test_a_weekend_of_several_windows_is_one_freeze():
    friday = window(weekdays=frozenset({4}), start=time(18), end=time(0), days_later=1)
    days = window(weekdays=frozenset({5, 6}), start=time(0), end=time(0), days_later=1, name="days")
    found = state_at(moment("Europe/Berlin", "2025-06-07T12:00"), [friday, days])
    assert found.since == moment("Europe/Berlin", "2025-06-06T18:00")
    assert found.until == moment("Europe/Berlin", "2025-06-09T00:00")
    one = window(weekdays=frozenset({4}), start=time(18), end=time(0), days_later=3)
    again = state_at(moment("Europe/Berlin", "2025-06-07T12:00"), [one])
    assert (again.since, again.until) == (found.since, found.until)


def test_openings_shorter_than_ten_minutes_stay_closed():
    def two(pause):
        return [
            window(start=time(10), end=time(11), days_later=0),
            window(start=time(11, pause), end=time(12), days_later=0, name="next"),
        ]

    between = moment("Europe/Berlin", "2025-06-03T11:04")
    assert state_at(between, two(9)).state == State.FROZEN
    assert state_at(between, two(9)).until == moment("Europe/Berlin", "2025-06-03T12:00")
    assert state_at(between, two(10)).state == State.OPEN


def test_what_never_ends_says_so():
    always = window(start=time(0), end=time(0), days_later=1)
    found = state_at(moment("Europe/Berlin", "2025-06-03T12:00"), [always])
    assert (found.state, found.until) == (State.FROZEN, None)
    assert "until somebody ends it" in found.reason


def once(**fields):
    usual = {"weekdays": frozenset(), "first_day": date(2025, 12, 20), "days_later": 0}
    return window(**{**usual, "last_day": date(2026, 3, 31), "name": "year end", **fields})


def test_a_long_one_off_has_its_end():
    found = state_at(moment("Europe/Berlin", "2025-12-24T12:00"), [once()])
    assert found.until == moment("Europe/Berlin", "2026-03-31T06:00")
    assert found.reason == "Frozen until 06:00 CEST on Tue 31 Mar 2026 (year end)"


def test_an_open_one_off_lasts_until_a_person_ends_it():
    rule = once(last_day=None, end=None)
    now = moment("Europe/Berlin", "2026-12-24T12:00")
    assert (state_at(now, [rule]).state, state_at(now, [rule]).until) == (State.FROZEN, None)
    ended = once(
        last_day=None,
        end=None,
        adjusted_start=moment("Europe/Berlin", "2025-12-20T22:00"),
        adjusted_end=now,
    )
    assert state_at(now, [ended]).state == State.OPEN


def test_one_occurrence_is_ended_early_or_extended_and_the_next_is_as_ever():
    start = moment("Europe/Berlin", "2025-06-02T22:00")
    rule = window(adjusted_start=start, adjusted_end=start + timedelta(hours=1))
    assert state_at(start + timedelta(hours=1), [rule]).state == State.OPEN
    assert state_at(start + DAY + timedelta(hours=1), [rule]).state == State.FROZEN
    longer = window(
        weekdays=frozenset({0}), adjusted_start=start, adjusted_end=start + timedelta(days=5)
    )
    found = state_at(start + timedelta(days=4), [longer])
    assert (found.state, found.since, found.until) == (State.FROZEN, start, start + 5 * DAY)
    assert state_at(start + timedelta(days=5), [longer]).state == State.OPEN


def test_an_occurrence_that_begins_at_midnight_because_of_the_clock_is_extended():
    """In Nuuk 23:30 does not exist on that Saturday: the clock goes from 23:00 to 0:00."""
    rule = window("America/Nuuk", weekdays=frozenset({5}), start=time(23, 30))
    start = datetime(2024, 3, 31, 1, tzinfo=UTC)
    assert upcoming(rule, start - MINUTE, 1)[0].start == start
    longer = replace(rule, adjusted_start=start, adjusted_end=start + 5 * DAY)
    for days in (1, 3, 4):
        assert state_at(start + days * DAY, [longer]).until == start + 5 * DAY
    assert state_at(start + 5 * DAY, [longer]).state == State.OPEN


def test_an_override_opens_until_it_expires():
    rule, now = window(), moment("Europe/Berlin", "2025-06-02T23:00")
    override = Override(now, now + timedelta(hours=1), "the database must be fixed")
    found = state_at(now, [rule], [override])
    assert (found.state, found.until) == (State.OPEN, override.expires)
    assert "the database must be fixed" in found.reason
    assert state_at(override.expires, [rule], [override]).state == State.FROZEN
    assert state_at(now - MINUTE, [rule], [override]).state == State.FROZEN


def test_what_cannot_be_read_counts_as_frozen():
    rule = window("Mars/Olympus")
    found = state_at(datetime(2025, 6, 3, tzinfo=UTC), [rule])
    assert found.state == State.FROZEN
    assert "Mars/Olympus" in found.reason
    with pytest.raises(UnreadableWindow):
        upcoming(rule, datetime(2025, 6, 3, tzinfo=UTC), 5)
    assert not is_zone("Mars/Olympus") and not is_zone("") and is_zone("Asia/Kolkata")


def test_the_next_occurrences_skip_exceptions_and_begin_with_the_present_one():
    rule = window(
        weekdays=frozenset({0}), exceptions=((date(2025, 6, 9), date(2025, 6, 16)),), days_later=1
    )
    now = moment("Europe/Berlin", "2025-06-02T23:00")
    days = [f"{one.start:%m-%d}" for one in upcoming(rule, now, 5)]
    assert days == ["06-02", "06-23", "06-30", "07-07", "07-14"]
    assert upcoming(once(), now, 5) == [*occurrences(once(), now, now + 365 * DAY)]


def test_the_last_day_is_one_of_its_zone_and_its_night_is_whole():
    """At 2:00 in India it is the day before in UTC."""
    rule = window("Asia/Kolkata", start=time(2), end=time(3), days_later=0, until=date(2025, 6, 4))
    now = datetime(2025, 6, 1, 12, tzinfo=UTC)
    starts = [f"{one.start:%m-%dT%H:%M}" for one in upcoming(rule, now, 5)]
    assert starts == ["06-01T20:30", "06-02T20:30", "06-03T20:30"]
    night = window("Asia/Kolkata", until=date(2025, 6, 4))
    end = moment(rule.zone, "2025-06-05T06:00")
    assert state_at(end - MINUTE, [night]).until == end
    assert state_at(end, [night], look_ahead=30 * DAY) == Freeze(State.OPEN)
    assert upcoming(night, end, 5) == []


def test_the_last_occurrence_may_be_extended_beyond_the_last_day():
    start = moment("Europe/Berlin", "2025-06-02T22:00")
    rule = window(until=date(2025, 6, 2), adjusted_start=start, adjusted_end=start + 9 * DAY)
    assert state_at(start + 8 * DAY, [rule]).until == start + 9 * DAY
    assert state_at(start + 9 * DAY, [rule]).state == State.OPEN
