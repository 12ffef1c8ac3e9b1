"""Every address of the admin answers GET, and no GET changes a row."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import resolve, reverse

from tests.support.showcase import Showcase
from tests.support.showcase_contents import SECRET

#: Django writes these on a visit: the session of the one who looks.
_BY_VISITING = {"django_session"}
#: Who read which state is written down.
_BY_READING = "state.downloaded"
#: So many addresses of one kind are enough; of tasks all, because they are in all states.
_OF_A_KIND, _OF_TASKS = 4, 30


def contents() -> dict[str, list[str]]:
    """Return every row of every table as text."""
    found = {}
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            if table not in _BY_VISITING and model._meta.managed:
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                rows = (row[0] for row in cursor.fetchall())
                found[table] = sorted(row for row in rows if _BY_READING not in row)
    return found


def links(html: str) -> set[str]:
    """Return the addresses within the admin that a page names."""
    named = re.findall(r'(?:href|action|data-load|data-url)="([^"#]+)"', html)
    paths = {unescape(link).split("?")[0] for link in named}
    return {path for path in paths if path.startswith("/admin/") and "/logout/" not in path}


def crawl(client: Client, start: str) -> Counter[str]:
    """Follow every link from ``start``; returns how often each kind of address was visited."""
    kinds: Counter[str] = Counter()
    seen, ahead = set(), [start]
    while ahead:
        path = ahead.pop(0)
        kind = resolve(path).view_name
        if path in seen or kinds[kind] >= (_OF_TASKS if "task_" in kind else _OF_A_KIND):
            continue
        seen.add(path)
        kinds[kind] += 1
        response: Any = client.get(path)
        body = b"".join(response.streaming_content) if response.streaming else response.content
        assert response.status_code < 400, (path, response.status_code)
        assert SECRET.encode() not in body, path
        if "html" in response.headers.get("Content-Type", ""):
            ahead += sorted(links(body.decode()))
    return kinds


@pytest.mark.parametrize(("who", "at_least"), [("admin", 65), ("approver", 30), ("viewer", 25)])
def test_no_get_changes_anything_and_no_page_breaks(
    showcase: Showcase, browse: Any, who: str, at_least: int
) -> None:
    client = browse(getattr(showcase, who))
    before = contents()
    kinds = crawl(client, reverse("admin:index"))
    assert contents() == before
    assert len(kinds) >= at_least, sorted(kinds)


def test_every_list_answers_and_needs_a_right(
    showcase: Showcase, browse: Any, django_user_model: type[User]
) -> None:
    client = browse(showcase.admin)
    nobody = browse(django_user_model.objects.create_user("nobody", is_staff=True))
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        assert client.get(reverse(name)).status_code == 200, name
        own = model._meta.label == "knox.AuthToken"
        assert nobody.get(reverse(name)).status_code == (200 if own else 403), name


def test_a_person_without_a_role_sees_nothing(
    showcase: Showcase, browse: Any, django_user_model: type[User]
) -> None:
    client = browse(django_user_model.objects.create_user("nobody", is_staff=True))
    assert "Nothing to see yet" in client.get(reverse("admin:index")).content.decode()
    url = reverse("admin:tasks_app_task_change", args=[showcase.waiting.pk])
    assert client.get(url).status_code == 404


def test_objects_of_other_projects_do_not_exist(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.viewer)  # of the project "network" alone
    hidden = showcase.applying  # in the project "default"
    assert (
        hidden.workspace.name
        not in client.get(reverse("admin:tasks_app_task_changelist")).content.decode()
    )
    for name in ("change", "plan", "plan_text"):
        url = reverse(f"admin:tasks_app_task_{name}", args=[hidden.pk])
        assert client.get(url).status_code == 404, name
    log = reverse("admin:tasks_app_task_log", args=[hidden.pk, "plan"])
    assert client.get(log).status_code == 404
    pod = client.get(reverse("admin:pods_app_pool_change", args=[showcase.pool.pk]))
    assert "a task of another project" in pod.content.decode()
    assert hidden.workspace.name not in pod.content.decode()
