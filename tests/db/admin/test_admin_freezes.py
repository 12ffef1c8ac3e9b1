"""Freezes in the admin: preview before saving, typed names, agenda, banner, overrides."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from pods_app.freeze.edges import follow_schedules
from pods_app.models import FreezeOverride, FreezeWindow, Pool
from tests.support.freezes import now, soon, window_row
from tests.support.showcase import Showcase

DIALOG = {"X-Slipway-Dialog": "1"}
ADD = reverse("admin:pods_app_freezewindow_add")
AGENDA = reverse("admin:pods_app_freezewindow_agenda")


def form(**changes: Any) -> dict[str, Any]:
    far = (now() + timedelta(days=3)).weekday()
    return {
        "name": "nightly",
        "reason": "backups run",
        "all_pools": "on",
        "time_zone": "America/New_York",
        "repeats": "weekly",
        "weekdays": [str(far)],
        "start_time": "22:00",
        "end_time": "06:00",
        "days_later": "1",
        "exceptions": "",
        "lead_minutes": "15",
        "grace_seconds": "120",
        "enabled": "on",
        **changes,
    }


def previewed(html: str) -> str:
    found = re.search(r'name="previewed" value="([0-9a-f]{64})"', html)
    assert found is not None, html
    return found[1]


def url(obj: Any, name: str) -> str:
    base = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_operate"
    return reverse(base, args=[obj.pk, name])


def page(client: Any, obj: Any) -> str:
    base = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change"
    answer = client.get(reverse(base, args=[obj.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_window_is_saved_after_its_preview_was_seen(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    assert 'name="confirm"' not in client.get(ADD, headers=DIALOG).content.decode()
    first = client.post(ADD, form(), headers=DIALOG)
    html = first.content.decode()
    assert first.status_code == 200 and not FreezeWindow.objects.exists()
    assert "Nothing is saved yet" in html and "If it began now" in html
    assert len(re.findall(r"\d E[SD]T<", html)) == 5 and len(re.findall(r"\d UTC<", html)) == 5
    changed = form(previewed=previewed(html), lead_minutes="30")
    again = client.post(ADD, changed, headers=DIALOG).content.decode()
    assert "Nothing is saved yet" in again, "it is another window"
    saved = client.post(ADD, form(previewed=previewed(html)), headers=DIALOG)
    assert saved.status_code == 200 and "saved" in saved.json()["message"]
    row = FreezeWindow.objects.get()
    assert (row.created_by, row.days_later) == (showcase.admin, 1)
    shown = page(client, row)
    assert "nightly" in shown and "22:00 – 06:00 on the next day" in shown
    assert "The next times" in shown
    assert "nightly" in client.get(AGENDA).content.decode()


def test_a_window_without_a_next_time_says_why(showcase: Showcase, browse: Any) -> None:
    client, ended = browse(showcase.admin), now() - timedelta(days=3)
    row = window_row(begins=timedelta(days=-3), ends=timedelta(days=-2))
    assert "does not begin any more" in page(client, row)
    times = {"start_time": ended.time(), "end_time": ended.time(), "days_later": 1}
    weekly = {"weekdays": [ended.weekday()], "first_day": None, "last_day": None, **times}
    FreezeWindow.objects.filter(pk=row.pk).update(**weekly, until=ended.date())
    assert "does not begin any more" in page(client, row)
    FreezeWindow.objects.filter(pk=row.pk).update(enabled=False)
    assert "not in use, so it does not begin" in page(client, row)
    skipped = [(ended.date(), ended.date() + timedelta(days=2000))]
    FreezeWindow.objects.filter(pk=row.pk).update(enabled=True, until=None, exceptions=skipped)
    assert "in the next four years" in page(client, row)


def test_the_right_of_tokens_is_given_to_groups(showcase: Showcase, browse: Any) -> None:
    client, group = browse(showcase.admin), Group.objects.create(name="release")
    right = Permission.objects.get(codename="override_by_token")
    address = reverse("admin:auth_group_change", args=[group.pk])
    assert "May override freezes with an API token" in client.get(address).content.decode()
    data = {"name": "release", "permissions": [str(right.pk)]}
    assert client.post(address, data).status_code == 302
    assert list(group.permissions.all()) == [right]


def test_the_ticket_stands_where_the_reason_does(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    html = client.post(ADD, form(ticket="CHG-4711"), headers=DIALOG).content.decode()
    client.post(ADD, form(ticket="CHG-4711", previewed=previewed(html)), headers=DIALOG)
    row, words = FreezeWindow.objects.get(), "backups run [CHG-4711]"
    assert words in page(client, row) and words in client.get(AGENDA).content.decode()
    assert 'value="CHG-4711"' in client.get(url(row, "settings"), headers=DIALOG).content.decode()
    found = client.get(reverse("admin:pods_app_freezewindow_changelist"), {"q": "4711"})
    assert "nightly" in found.content.decode()
    pool = Pool.objects.order_by("name").first()
    assert pool is not None
    data = {"reason": "an incident", "ticket": "INC-7", "confirm": pool.name}
    assert client.post(url(pool, "freeze"), data, headers=DIALOG).status_code == 200
    html = page(client, pool)
    assert "an incident [INC-7]" in html and html.count("[INC-7]).") >= 2, "panel and banner"


def test_one_that_begins_soon_needs_its_name_typed(showcase: Showcase, browse: Any) -> None:
    client, start = browse(showcase.admin), now() + timedelta(minutes=5)
    once = form(
        time_zone="UTC",
        repeats="once",
        first_day=f"{start:%Y-%m-%d}",
        start_time=f"{start:%H:%M}",
        end_time="",
    )
    html = client.post(ADD, once, headers=DIALOG).content.decode()
    assert 'name="confirm"' in html and "within its lead time" in html
    seen = {**once, "previewed": previewed(html)}
    refused = client.post(ADD, seen, headers=DIALOG)
    assert refused.status_code == 400 and "type its name: nightly" in refused.content.decode()
    assert not FreezeWindow.objects.exists()
    assert client.post(ADD, {**seen, "confirm": "nightly"}, headers=DIALOG).status_code == 200
    assert "until somebody ends it" in page(client, FreezeWindow.objects.get())


def test_the_preview_ends_with_the_last_day(showcase: Showcase, browse: Any) -> None:
    client, until = browse(showcase.admin), f"{now() + timedelta(days=11):%Y-%m-%d}"
    html = client.post(ADD, form(until=until), headers=DIALOG).content.decode()
    assert len(re.findall(r"\d E[SD]T<", html)) == 2
    saved = client.post(ADD, form(until=until, previewed=previewed(html)), headers=DIALOG)
    assert saved.status_code == 200
    row = FreezeWindow.objects.get()
    assert f" until {until}, 22:00" in page(client, row)
    html = client.get(url(row, "settings"), headers=DIALOG).content.decode()
    assert f'value="{until}"' in html
    once = form(repeats="once", first_day=until, end_time="", until=until)
    again = client.post(ADD, once, headers=DIALOG).content.decode()
    client.post(ADD, {**once, "previewed": previewed(again)}, headers=DIALOG)
    assert FreezeWindow.objects.get(weekdays=[]).until is None, "the form hides it"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"until": "2020-01-01"}, "use a later day, or none"),
        ({"days_later": "0"}, "before it starts at 22:00"),
        ({"weekdays": []}, "Choose the days"),
        ({"exceptions": "Christmas"}, "neither a day such as"),
        ({"exceptions": "2030-12-24 to 2030-12-26\n2030-12-26"}, "overlap; join them"),
        ({"all_pools": ""}, "either some pools or all"),
        ({"time_zone": "Mars/Olympus"}, "Select a valid choice"),
        ({"repeats": "once"}, "either the weekdays"),
    ],
)
def test_bad_windows_are_refused_in_words(
    showcase: Showcase, browse: Any, changes: dict[str, Any], words: str
) -> None:
    answer = browse(showcase.admin).post(ADD, form(**changes), headers=DIALOG)
    assert answer.status_code == 422 and words in answer.content.decode()


def test_what_is_in_force_is_ended_or_extended_with_a_reason(
    showcase: Showcase, browse: Any
) -> None:
    client, row = browse(showcase.admin), window_row()
    html = page(client, row)
    assert "In force" in html
    assert re.search('id="do-delete"[^>]*aria-disabled="true"', html)
    late = (now() + timedelta(hours=4)).strftime("%Y-%m-%dT%H:%M")
    extended = client.post(url(row, "extend"), {"until": late, "reason": "more"}, headers=DIALOG)
    assert "It lasts until" in extended.json()["message"]
    assert client.post(url(row, "end"), {"reason": ""}, headers=DIALOG).status_code == 422
    assert client.post(url(row, "end"), {"reason": "done"}, headers=DIALOG).status_code == 200
    row.refresh_from_db()
    assert row.adjusted_reason == "done"
    html = client.get(url(row, "settings"), headers=DIALOG).content.decode()
    assert "quarter end" in html
    assert client.post(url(row, "delete"), headers=DIALOG).status_code == 200
    assert not FreezeWindow.objects.exists()


def test_every_page_tells_what_comes_and_what_is(showcase: Showcase, browse: Any) -> None:
    client, index = browse(showcase.viewer), reverse("admin:index")
    assert "sw-banner" not in client.get(index).content.decode()
    row = soon()
    html = client.get(index).content.decode()
    assert "sw-banner" in html and "Freezes at" in html and "data-ago" in html
    row.delete()
    window_row()
    for address in (index, AGENDA, reverse("admin:tasks_app_task_changelist")):
        assert "Frozen until" in client.get(address).content.decode()


def test_a_pool_is_frozen_overridden_and_told_of(showcase: Showcase, browse: Any) -> None:
    client, pool = browse(showcase.admin), Pool.objects.order_by("name").first()
    assert pool is not None
    html = client.get(url(pool, "freeze"), headers=DIALOG).content.decode()
    assert "If it began now" in html
    wrong = client.post(url(pool, "freeze"), {"reason": "r", "confirm": "x"}, headers=DIALOG)
    assert wrong.status_code == 422 and "not the pool" in wrong.content.decode()
    data = {"reason": "an incident", "confirm": pool.name}
    assert client.post(url(pool, "freeze"), data, headers=DIALOG).status_code == 200
    follow_schedules([pool])
    html = page(client, pool)
    assert "an incident" in html and "Frozen until somebody ends it" in html
    data = {"minutes": "30", "reason": "the fix"}
    assert client.post(url(pool, "override_freeze"), data, headers=DIALOG).status_code == 200
    assert FreezeOverride.objects.get().created_by == showcase.admin
    html = page(client, pool)
    assert "Overridden" in html and "the fix" in html
    assert client.post(url(pool, "end_override"), headers=DIALOG).status_code == 200
    assert "Overridden" not in page(client, pool)


def test_others_look_but_change_nothing(showcase: Showcase, browse: Any) -> None:
    client, row, pool = browse(showcase.viewer), window_row(), Pool.objects.first()
    assert "do-end" not in page(client, row)
    assert client.get(ADD).status_code == 404
    for obj, name in ((row, "end"), (row, "delete"), (pool, "freeze"), (pool, "override_freeze")):
        assert client.post(url(obj, name), {"reason": "r"}, headers=DIALOG).status_code == 404
