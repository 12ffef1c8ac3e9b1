"""Every address of the admin answers GET, and no GET changes a row."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.urls import reverse

from tests.support.showcase import SECRET

#: Django writes these on a visit: the session of the one who looks.
_BY_VISITING = {"django_session"}


def contents() -> dict[str, list[str]]:
    """Return every row of every table as text."""
    found = {}
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            if table not in _BY_VISITING and model._meta.managed:
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                found[table] = sorted(row[0] for row in cursor.fetchall())
    return found


def links(html: str) -> set[str]:
    """Return the addresses within the admin that a page names."""
    named = re.findall(r'(?:href|action|data-load|data-url)="([^"#]+)"', html)
    paths = {unescape(link).split("#")[0] for link in named}
    return {path for path in paths if path.startswith("/admin/") and "/logout/" not in path}


def crawl(client, start: set[str]) -> dict[str, object]:
    """Follow every link from ``start``; one query string per path is enough."""
    seen: dict[str, object] = {}
    ahead = sorted(start)
    while ahead:
        path = ahead.pop()
        if path.split("?")[0] in seen:
            continue
        response = client.get(path)
        body = b"".join(response.streaming_content) if response.streaming else response.content
        seen[path.split("?")[0]] = response
        assert response.status_code < 400, (path, response.status_code)
        assert SECRET.encode() not in body, path
        if "html" in response.headers.get("Content-Type", ""):
            ahead += sorted(links(body.decode()))
    return seen


@pytest.mark.parametrize("who", ["admin", "approver", "viewer"])
def test_no_get_changes_anything_and_no_page_breaks(showcase, browse, who):
    client = browse(getattr(showcase, who))
    before = contents()
    seen = crawl(client, {reverse("admin:index")})
    assert contents() == before
    assert len(seen) > (150 if who == "admin" else 40)
    if who == "admin":
        for model in admin.site._registry:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
            assert reverse(name) in seen or client.get(reverse(name)).status_code == 200, name


def test_a_person_without_a_role_sees_nothing(showcase, browse, django_user_model):
    nobody = django_user_model.objects.create_user("nobody", is_staff=True)
    client = browse(nobody)
    assert "Nothing to see yet" in client.get(reverse("admin:index")).content.decode()
    assert client.get(reverse("admin:tasks_app_task_changelist")).status_code == 403
    url = reverse("admin:tasks_app_task_change", args=[showcase.waiting.pk])
    assert client.get(url).status_code == 404
