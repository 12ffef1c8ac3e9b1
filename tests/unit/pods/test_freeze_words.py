"""Freezes in words: times name their zone."""

from datetime import UTC, datetime

import pytest

from pods_app.freeze.state import Freeze, State, moment_words, span_words, state_at, with_ticket
from pods_app.freeze.windows import upcoming
from tests.support.freeze_rules import moment, window


def test_times_in_words_name_the_zone():
    assert moment_words(datetime(2025, 12, 1, 5, tzinfo=UTC), "Europe/Berlin") == (
        "06:00 CET on Mon 1 Dec 2025"
    )
    assert "UTC+05:45" in moment_words(datetime(2025, 12, 1, 5, tzinfo=UTC), "Asia/Kathmandu")
    assert moment_words(datetime(2025, 1, 1, tzinfo=UTC), "Australia/Lord_Howe").startswith(
        "11:00 UTC+11 on"
    )
    assert Freeze(State.OPEN).reason == "Open"


def test_a_ticket_stands_with_the_name_of_its_window():
    rules = [window(ticket="CHG-4711"), window(name="backups")]
    found = state_at(moment("Europe/Berlin", "2025-06-02T23:00"), rules)
    assert found.reason.endswith("(nightly [CHG-4711], backups)")
    assert with_ticket("backups", "") == "backups"


@pytest.mark.parametrize(
    ("now", "zone", "words"),
    [
        ("2025-06-02T22:00", "Europe/Berlin", "Mon 2 Jun 2025, 22:00 – Tue 3 Jun, 06:00 CEST"),
        ("2025-06-02T22:00", "UTC", "Mon 2 Jun 2025, 20:00 – Tue 3 Jun, 04:00 UTC"),
        (
            "2025-10-25T22:00",
            "Europe/Berlin",
            "Sat 25 Oct 2025, 22:00 CEST – Sun 26 Oct, 06:00 CET",
        ),
        ("2025-06-02T22:00", "Asia/Kathmandu", "Tue 3 Jun 2025, 01:45 – 09:45 UTC+05:45"),
    ],
)
def test_an_interval_in_words(now, zone, words):
    (interval,) = upcoming(window(), moment("Europe/Berlin", now), 1)
    assert span_words(interval, zone) == words
