"""Agents and pods: how they are, what they have, draining."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from agents_app.models import Agent
from pods_app.models import Lease, ManagedPod
from tasks_app.models.base import ClockTimestamp
from tests.support.showcase import Showcase


def page(client: Any, obj: Any) -> str:
    name = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change"
    return str(client.get(reverse(name, args=[obj.pk])).content.decode())


@pytest.fixture
def agent(showcase: Showcase) -> Agent:
    """The agent on which the plan of the showcase waits."""
    return Agent.objects.get(pod__slots__task=showcase.waiting)


def test_both_pages_show_what_is_held(showcase: Showcase, browse: Any, agent: Agent) -> None:
    client = browse(showcase.admin)
    Lease.objects.filter(task=showcase.waiting).update(
        held=False, hold_reason="Not held: no memory."
    )
    for obj in (agent, agent.pod):
        html = page(client, obj)
        assert "Kept directory" in html and "Not held: no memory." in html
        assert "network-prod #2" in html and "n doubt after" in html
    Lease.objects.filter(task=showcase.waiting).update(held=True, hold_reason="")
    for obj in (agent, agent.pod):
        assert "Held Terraform" in page(client, obj)
    listed = client.get(reverse("admin:agents_app_agent_changelist")).context["cl"].result_list
    assert {row.pk: row.held_applies for row in listed}[agent.pk] == 1


def test_a_task_of_another_project_is_counted_and_not_named(
    showcase: Showcase, browse: Any
) -> None:
    Lease.objects.filter(task=showcase.applying).update(phase="hold")
    agent = Agent.objects.get(pod__slots__task=showcase.applying)
    html = page(browse(showcase.viewer), agent)
    assert "1 of other projects." in html and showcase.applying.workspace.name not in html


def test_silence_is_shown_and_filtered(showcase: Showcase, browse: Any, agent: Agent) -> None:
    client = browse(showcase.admin)
    ManagedPod.objects.filter(pk=agent.pod_id).update(
        last_heartbeat=ClockTimestamp() - timedelta(minutes=30)
    )
    html = page(client, agent)
    assert "In doubt" in html and "sw-text-ask" in html
    for name in ("agents_app_agent", "pods_app_managedpod"):
        path = f"{reverse(f'admin:{name}_changelist')}?health=unknown"
        (row,) = client.get(path).context["cl"].result_list
        assert row.pk in (agent.pk, agent.pod_id)


def test_an_agent_is_drained_on_its_own_page(showcase: Showcase, browse: Any, agent: Agent) -> None:
    client = browse(showcase.admin)
    drain = reverse("admin:agents_app_agent_operate", args=[agent.pk, "drain"])
    undrain = reverse("admin:agents_app_agent_operate", args=[agent.pk, "undrain"])
    assert browse(showcase.approver).post(drain, {"reason": "disk"}).status_code == 404
    assert drain in page(client, agent) and undrain not in page(client, agent)
    assert "network-prod #2" in client.get(drain).content.decode()
    assert client.post(drain, {"reason": "disk"}).status_code == 303
    agent.pod.refresh_from_db()
    assert agent.pod.draining
    html = page(client, agent)
    assert "Draining: it takes no new work: disk." in html and undrain in html
    assert client.post(undrain, {"reason": "done"}).status_code == 303
    agent.pod.refresh_from_db()
    assert not agent.pod.draining
