"""`manage.py freeze` and `unfreeze`."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from pods_app.models import FreezeOverride, FreezeWindow
from tasks_app.models import Event, Task
from tests.support.factories import make_pod, make_task
from tests.support.freezes import now, window_row

pytestmark = pytest.mark.django_db


def run(capsys, *arguments):
    call_command(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_frozen_at_once_and_until_it_is_ended(pool, capsys):
    make_pod(pool)
    task = make_task()
    found = run(capsys, "freeze", "main", "--reason", "an incident", "--ticket", "INC-7")
    assert (found["ticket"], FreezeWindow.objects.get().ticket) == ("INC-7", "INC-7")
    assert (found["state"], found["planning"], found["unconfirmed"]) == ("frozen", 1, 1)
    pool.refresh_from_db()
    assert pool.frozen and Task.objects.get(pk=task.pk).status == "pending"
    found = run(capsys, "unfreeze", "main", "--reason", "over")
    assert (found["state"], len(found["windows"])) == ("reopening", 1)
    pool.refresh_from_db()
    assert not pool.frozen
    call_command("freeze", "main", "--reason", "r", "--until", later())
    assert "Frozen until" in capsys.readouterr().out


def later():
    return (now() + timedelta(hours=1)).isoformat()


def test_a_dry_run_changes_nothing_and_says_what_it_would_hit(pool, capsys):
    make_pod(pool)
    make_task()
    with pytest.raises(SystemExit) as exit:
        call_command("freeze", "main", "--reason", "r", "--dry-run")
    assert exit.value.code == 3
    assert "1 pod" in (out := capsys.readouterr().out) and "1 running plan " in out
    assert not FreezeWindow.objects.exists()
    window_row(pool)
    with pytest.raises(SystemExit) as exit:
        call_command("unfreeze", "main", "--reason", "r", "--dry-run")
    assert exit.value.code == 3 and "quarter end" in capsys.readouterr().out
    assert FreezeWindow.objects.get().adjusted_end is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("freeze", "none", "--reason", "r"), "there are: main"),
        (("freeze", "main", "--reason", " "), "Say why"),
        (("freeze", "main", "--reason", "r", "--ticket", "x" * 101), "one line of at most 100"),
        (("freeze", "main", "--reason", "r", "--until", "soon"), "no time such as"),
        (("freeze", "main", "--reason", "r", "--until", "2030-01-01T00:00"), "no zone"),
        (("freeze", "main", "--reason", "r", "--until", "2020-01-01T00:00Z"), "over already"),
        (("unfreeze", "main", "--reason", "r"), "No window is in force"),
        (("unfreeze", "main", "--reason", "r", "--override-minutes", "999"), "Between 1 and 240"),
        (("unfreeze", "main", "--reason", "r", "--override-minutes", "0"), "Between 1 and 240"),
        (("unfreeze", "main", "--reason", "r", "--end-override"), "No override is in force"),
    ],
)
def test_bad_input_is_refused_in_words(pool, arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command(*arguments)


def test_windows_of_other_pools_are_not_ended_but_may_be_overridden(pool, capsys):
    window_row()
    with pytest.raises(CommandError, match="other pools as well"):
        call_command("unfreeze", "main", "--reason", "r")
    found = run(capsys, "unfreeze", "main", "--reason", "r", "--override-minutes", "30")
    assert found["state"] == "open" and "override" in found["reason"]
    assert FreezeOverride.objects.get().pool == pool


def test_an_override_is_taken_back(pool, capsys):
    window_row()
    call_command("unfreeze", "main", "--reason", "r", "--override-minutes", "30")
    with pytest.raises(SystemExit) as exit:
        call_command("unfreeze", "main", "--reason", "r", "--end-override", "--dry-run")
    assert exit.value.code == 3
    assert "It would end 1 override of main." in capsys.readouterr().out
    found = run(capsys, "unfreeze", "main", "--reason", "it is out", "--end-override")
    assert (found["state"], found["overrides_ended"]) == ("frozen", 1)
    assert Event.objects.get(kind="freeze_override.ended").cause == "it is out"
    pool.refresh_from_db()
    assert pool.frozen
