"""Lists: as many queries for one row as for many, filters, search, and the log's parts."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app.actors import Actor
from tasks_app.models import LogStream
from tasks_app.services import tasks
from tests.support.factories import make_pod, make_workspace
from tests.support.showcase import Showcase
from tests.support.showcase_contents import PLAN_LOG, write_log

LISTS = [
    "tasks_app_task",
    "tasks_app_workspace",
    "tasks_app_event",
    "pods_app_pool",
    "pods_app_managedpod",
    "pods_app_podslot",
    "pods_app_lease",
    "agents_app_agent",
]


def _queries(client: Any, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert client.get(path).status_code == 200
    return len(queries)


@pytest.mark.parametrize("who", ["admin", "approver"])
def test_lists_need_the_same_queries_however_long_they_are(
    showcase: Showcase, browse: Any, who: str
) -> None:
    client = browse(getattr(showcase, who))
    paths = [reverse(f"admin:{name}_changelist") for name in LISTS] + [reverse("admin:index")]
    before = {path: _queries(client, path) for path in paths}
    actor = Actor.person(showcase.admin)
    for number in range(4):
        make_pod(showcase.pool)
        workspace = make_workspace(project=showcase.workspace.project, name=f"more-{number}")
        tasks.create_task(actor=actor, workspace=workspace)
        tasks.create_task(actor=actor, workspace=workspace, type="plan")
    assert {path: _queries(client, path) for path in paths} == before
    assert max(before.values()) <= 50, before


def test_lists_never_read_contents(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    for name in LISTS:
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse(f"admin:{name}_changelist"))
        read = " ".join(query["sql"] for query in queries)
        assert "ciphertext" not in read and "diagnostics" not in read, name


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=running", {"data-warehouse #1"}),
        ("status=unacknowledged", {"identity #1"}),
        ("status=apply_pending", {"network-prod #2", "cdn #1"}),
        ("type__exact=plan", {"billing-staging #1"}),
        ("q=%233", {"network-prod #3"}),
        ("q=certificates", {"network-prod #3"}),
        ("q=cdn", {"cdn #1"}),
        ("q=nothing-like-it", set()),
    ],
)
def test_filters_and_search(showcase: Showcase, browse: Any, query: str, found: set[str]) -> None:
    page = browse(showcase.admin).get(f"{reverse('admin:tasks_app_task_changelist')}?{query}")
    rows = page.context["cl"].result_list
    assert {f"{task.workspace.name} #{task.number}" for task in rows} == found
    if not found:
        assert "Nothing matches" in page.content.decode()


def test_the_pool_filter_comes_from_above(showcase: Showcase, browse: Any) -> None:
    path = reverse("admin:tasks_app_task_changelist")
    page = browse(showcase.admin).get(f"{path}?pool={showcase.pool.pk}")
    assert {task.workspace.name for task in page.context["cl"].result_list} >= {"network-prod"}
    assert "edge-cache" not in {task.workspace.name for task in page.context["cl"].result_list}


def test_the_log_goes_on_from_an_offset(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.viewer), showcase.waiting
    path = reverse("admin:tasks_app_task_log", args=[task.pk, "plan"])
    whole = "".join(f"{line}\n" for line in PLAN_LOG).encode()
    first = client.get(path)
    assert first.content == whole and first.headers["Content-Type"].startswith("text/plain")
    assert int(first.headers["X-Next-Offset"]) == len(whole)
    write_log(task, "plan", ["more"])
    assert client.get(f"{path}?offset={len(whole)}").content == b"more\n"
    assert client.get(f"{path}?offset=-1").content.startswith(whole[:20])
    download = client.get(f"{path}?download")
    assert b"".join(download.streaming_content) == whole + b"more\n"
    LogStream.objects.filter(task=task).update(complete=True)
    assert client.get(f"{path}?offset=999999").headers["X-Complete"] == "1"


def test_the_plan_is_shown_masked_and_escaped(showcase: Showcase, browse: Any) -> None:
    path = reverse("admin:tasks_app_task_plan", args=[showcase.waiting.pk])
    html = browse(showcase.viewer).get(path).content.decode()
    assert "(sensitive value)" in html and "(known after apply)" in html
    assert "ELBSecurityPolicy-TLS13-1-2" in html and "replace" in html
    assert "<script>document" not in html and "&lt;script&gt;document" in html


def test_diagnostics_show_where(showcase: Showcase, browse: Any) -> None:
    path = reverse("admin:tasks_app_task_change", args=[showcase.failed.pk])
    html = browse(showcase.admin).get(path).content.decode()
    assert "Reference to undeclared resource" in html
    assert "network/main.tf:14" in html and "vpc_id = aws_vpc.main.id" in html


def test_a_workspace_with_its_own_backend_says_what_is_missing(
    showcase: Showcase, browse: Any
) -> None:
    from tasks_app.models import Workspace

    workspace = Workspace.objects.get(name="cdn")
    path = reverse("admin:tasks_app_workspace_change", args=[workspace.pk])
    html = browse(showcase.admin).get(path).content.decode()
    assert "no second gate" in html and "no serial check" in html and "no versions" in html


def test_parts_are_refreshed_without_the_page_around(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    path = reverse("admin:tasks_app_task_change", args=[showcase.waiting.pk])
    html = client.get(path, headers={"X-Slipway-Parts": "1"}).content.decode()
    assert 'data-part="head"' in html and "<html" not in html
    start = client.get(reverse("admin:index"), headers={"X-Slipway-Parts": "1"}).content.decode()
    assert 'data-part="attention"' in start and "<html" not in start


def test_the_start_page_leads_with_what_needs_attention(showcase: Showcase, browse: Any) -> None:
    page = browse(showcase.admin).get(reverse("admin:index"))
    rows = {item.text: (item.tone, item.count) for item in page.context["attentions"]}
    assert rows["plans to confirm"] == ("ask", 2)
    assert rows["interrupted, not acknowledged"] == ("bad", 1)
    assert rows["apply with an unknown result"] == ("bad", 1)
    assert rows["pod with a lost agent"] == ("bad", 1)
    assert rows["not made ready by any agent"] == ("ask", 1)
    tones = [item.tone for item in page.context["attentions"]]
    assert tones == sorted(tones, key=lambda tone: tone != "bad")
    for item in page.context["attentions"]:
        listed = browse(showcase.admin).get(item.url).context["cl"].result_count
        assert listed == item.count, item.url
