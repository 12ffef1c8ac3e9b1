"""Deleting a pod in the admin: what the dialog shows, asks and does; the slot grid."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from pods_app.autoscaler.decisions import decide
from pods_app.models import ManagedPod, Pool
from pods_app.states import PoolKind
from tasks_app.models import Event
from tests.support.factories import make_pod, make_pool, make_user
from tests.support.showcase import Showcase, lease_of

DIALOG = {"X-Slipway-Dialog": "1"}


def url(pod: ManagedPod, name: str) -> str:
    return reverse("admin:pods_app_managedpod_operate", args=[pod.pk, name])


@pytest.fixture
def pod(showcase: Showcase) -> ManagedPod:
    """The pod in which an apply runs; as if the controller had made it."""
    found: ManagedPod = lease_of(showcase.applying).slot.pod
    ManagedPod.objects.filter(pk=found.pk).update(kind=PoolKind.LOCAL)
    found.refresh_from_db()
    return found


def test_a_running_apply_is_named_and_the_name_must_be_typed(
    showcase: Showcase, browse: Any, pod: ManagedPod
) -> None:
    client = browse(showcase.admin)
    form = client.get(url(pod, "delete"), headers=DIALOG).content.decode()
    assert f"Delete {pod.pod_name}?" in form
    assert "data-warehouse #1" in form and "is cut off in the middle" in form
    assert 'name="confirm"' in form
    for confirm, status in (("", 422), ("another", 400)):
        data = {"reason": "disk", "confirm": confirm}
        assert client.post(url(pod, "delete"), data, headers=DIALOG).status_code == status
    assert not ManagedPod.objects.exclude(deletion_reason="").exists()
    data = {"reason": "disk", "confirm": pod.pod_name}
    answer = client.post(url(pod, "delete"), data, headers=DIALOG)
    assert "is being deleted" in answer.json()["message"]
    pod.refresh_from_db()
    assert pod.deletion_reason == "deleted by ada: disk"
    assert Event.objects.filter(kind="pod.deleted", actor="user:ada").count() == 1
    page = client.get(reverse("admin:pods_app_managedpod_change", args=[pod.pk]))
    html = page.content.decode()
    assert "It is being deleted by ada: disk." in html and "Being deleted" in html
    assert "Delete: not possible. It is being deleted already." in html


def test_without_an_apply_a_reason_is_enough(showcase: Showcase, browse: Any) -> None:
    pod = ManagedPod.objects.get(draining=True)
    ManagedPod.objects.filter(pk=pod.pk).update(kind=PoolKind.LOCAL)
    client = browse(showcase.admin)
    form = client.get(url(pod, "delete"), headers=DIALOG).content.decode()
    assert "Nothing is in it now." in form and 'name="confirm"' not in form
    assert client.post(url(pod, "delete"), {"reason": "disk"}).status_code == 303
    pod.refresh_from_db()
    assert pod.deletion_reason


def test_looking_changes_nothing_and_others_may_not(
    showcase: Showcase, browse: Any, pod: ManagedPod
) -> None:
    for name in ("drain", "delete"):
        assert browse(showcase.admin).get(url(pod, name)).status_code == 200
        for person in (showcase.approver, showcase.viewer):
            client = browse(person)
            assert client.get(url(pod, name)).status_code == 404
            data = {"reason": "disk", "confirm": pod.pod_name}
            assert client.post(url(pod, name), data).status_code == 404
    pod.refresh_from_db()
    assert not pod.draining and not pod.deletion_reason


def test_a_drain_says_what_stays(showcase: Showcase, browse: Any, pod: ManagedPod) -> None:
    form = browse(showcase.admin).get(url(pod, "drain"), headers=DIALOG).content.decode()
    assert "goes on to its end" in form


def test_the_grid_needs_the_same_queries_for_a_hundred_pods(
    showcase: Showcase, browse: Any
) -> None:
    client, path = browse(showcase.admin), reverse("admin:pods_app_managedpod_grid")

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            page = client.get(path, headers={"X-Slipway-Parts": "1"})
        assert page.status_code == 200
        return len(found)

    before = queries()
    for _ in range(100):
        make_pod(showcase.pool)
    assert queries() == before <= 40
    html = client.get(path).content.decode()
    assert html.count('class="sw-slot sw-slot-idle" role="img"') >= 300
    assert "data-warehouse #1" in html and "sw-slot-gone" in html and "new disk" in html


def test_the_grid_shows_what_a_pool_wants_and_its_last_decision(
    showcase: Showcase, browse: Any
) -> None:
    for name in ("one", "two"):
        pool = make_pool(name=name, kind=PoolKind.LOCAL, min_pods=1)
        make_pod(pool)
        for least in (1, 2):
            Pool.objects.filter(pk=pool.pk).update(min_pods=least)
            decide([Pool.objects.get(pk=pool.pk)])
    html = browse(showcase.admin).get(reverse("admin:pods_app_managedpod_grid")).content.decode()
    assert html.count("1 of 2 pods wanted.</strong> No work; 2 at least.") == 2
    assert html.count(": 1 → 2, No work; 2 at least.") == 2
    assert html.count("Not scaled down: The pool wants 2 pods and has no more") == 2


def test_the_grid_leads_to_what_can_be_done_about_a_pod(showcase: Showcase, browse: Any) -> None:
    pool = make_pool(name="local", kind=PoolKind.LOCAL)
    pods = [make_pod(pool) for _ in range(3)]
    ManagedPod.objects.filter(pool=pool).update(kind=PoolKind.LOCAL)
    ManagedPod.objects.filter(pk=pods[1].pk).update(draining=True, phase_reason="disk")
    reason = "deleted by ada: disk"
    ManagedPod.objects.filter(pk=pods[2].pk).update(draining=True, deletion_reason=reason)
    everywhere = make_user("manager", is_staff=True)
    path = reverse("admin:pods_app_managedpod_grid") + f"?pool={pool.pk}"
    for person in (showcase.admin, everywhere):
        client = browse(person)
        html = client.get(path).content.decode()
        links = set(re.findall(r'href="([^"]+/do/[a-z]+/)"', html))
        assert links == {
            url(pods[0], "drain"),
            url(pods[0], "delete"),
            url(pods[1], "undrain"),
            url(pods[1], "delete"),
        }
        for link in links:
            assert client.get(link, headers=DIALOG).status_code == 200
        name = pods[2].pod_name
        assert f"Undrain {name}: not possible. It is being deleted." in html
        assert f"Delete {name}: not possible. It is being deleted already." in html
    for person in (showcase.approver, showcase.viewer):
        html = browse(person).get(path).content.decode()
        assert "/do/" not in html and "not possible" not in html


def test_the_grid_names_no_task_of_another_project(showcase: Showcase, browse: Any) -> None:
    html = browse(showcase.viewer).get(reverse("admin:pods_app_managedpod_grid")).content.decode()
    assert "a task of another project" in html and "data-warehouse" not in html
