from pathlib import Path

from tasks_app.ids import uuid7
from tasks_app.state_docs import render
from tasks_app.states import FINAL, RUNNING, TRANSITIONS, WAITING, Status


def test_documentation_is_generated_from_the_table():
    page = Path(__file__).parents[3] / "docs" / "states.md"
    assert page.read_text() == render()


def test_every_status_is_in_the_table_and_in_exactly_one_group():
    assert set(TRANSITIONS) == set(Status)
    for status in Status:
        assert [status in FINAL, status in RUNNING, status in WAITING].count(True) == 1


def test_every_status_can_be_reached_and_every_live_one_can_end():
    reached, ends = {Status.PENDING}, set(FINAL)
    for _ in Status:
        reached |= {t for s in reached for t in TRANSITIONS[s]}
        ends |= {s for s in Status if ends & set(TRANSITIONS[s])}
    assert reached == set(Status) == ends


def test_only_the_permit_leads_to_applying_and_only_a_person_to_confirmed():
    assert [s for s in Status if Status.APPLYING in TRANSITIONS[s]] == [
        Status.CONFIRMED,
        Status.APPLY_UNKNOWN,
    ]
    assert [s for s in Status if Status.CONFIRMED in TRANSITIONS[s]] == [Status.APPLY_PENDING]


def test_uuid7_sorts_by_time_and_says_its_version():
    made = [uuid7() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(u.version == 7 and u.variant == "specified in RFC 4122" for u in made)
    assert made == sorted(made), "also those of one millisecond"
