"""A pool's settings are checked by the cluster before they are stored."""

from __future__ import annotations

import dataclasses

import pytest

from pods_app.models import Pool
from pods_app.pools import create_pool, update_pool
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tests.support.factories import make_admin

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("web")]


@pytest.fixture
def web(slipway, space, settings):
    """Slipway as a web process."""
    settings.SLIPWAY = dataclasses.replace(slipway, kubeconfig=str(space.kubeconfig("slipway-web")))
    return settings.SLIPWAY


@pytest.fixture
def actor():
    return Actor.person(make_admin())


def create(actor, name="pool", **fields):
    return create_pool(actor=actor, name=name, kind=PoolKind.KUBERNETES, **fields)


def refusal(action, *args, **fields):
    with pytest.raises(InvalidInput) as refused:
        action(*args, **fields)
    return refused.value.field, refused.value.detail


def test_a_pool_that_the_cluster_would_take_is_saved(actor, space):
    pool = create(actor, pod_template="spec: {nodeSelector: {disk: fast}}")
    assert Pool.objects.get() == pool
    assert space.all_pods() == [], "it was only asked"


def test_what_the_cluster_refuses_is_told_with_the_field_and_not_saved(actor):
    template = "spec: {containers: [{name: agent, resources: {requests: {memory: 8Gi}}}]}"
    field, detail = refusal(create, actor, pod_template=template)
    assert field == "pod_template"
    assert "must be less than or equal to memory limit" in detail
    field, detail = refusal(create, actor, pod_template="spec: {nodeSelektor: {a: b}}")
    assert (field, "nodeSelektor" in detail) == ("pod_template", True)
    assert not Pool.objects.exists()


def test_a_change_is_checked_too(actor):
    pool = create(actor)
    field, _ = refusal(update_pool, actor=actor, pool=pool, pod_template="spec: {a: b}")
    assert field == "pod_template"
    assert Pool.objects.get().pod_template == ""


def test_a_used_up_quota_is_no_mistake_of_the_template(actor, space):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    made = space.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    space.set_status(made, hard={"pods": "0"}, used={"pods": "0"})
    create(actor)


def test_a_name_that_pods_cannot_have_is_refused(actor):
    field, detail = refusal(create, actor, name="Big_Pool")
    assert field == "name"
    assert "small letters" in detail


def test_without_the_right_the_remedy_is_named(actor, space):
    role = space.role("slipway-templates")
    role["rules"] = []
    space.set_role(role)
    field, detail = refusal(create, actor)
    assert field == "pod_template"
    assert "grant the right" in detail


def test_without_a_cluster_the_remedy_is_named(actor, web, settings, space):
    settings.SLIPWAY = dataclasses.replace(web, kubeconfig="")
    field, detail = refusal(create, actor)
    assert (field, "SLIPWAY_KUBECONFIG" in detail) == ("kind", True)
    path = space.access.kubeconfig("nowhere", "none", space.name, url="http://127.0.0.1:9")
    settings.SLIPWAY = dataclasses.replace(web, kubeconfig=str(path))
    field, detail = refusal(create, actor)
    assert (field, "gives no answer" in detail) == ("kind", True)
    path = space.access.kubeconfig("stranger", "no-such-token", space.name)
    settings.SLIPWAY = dataclasses.replace(web, kubeconfig=str(path))
    field, detail = refusal(create, actor)
    assert (field, "credentials" in detail) == ("kind", True)


def test_other_settings_need_no_cluster(actor, web, settings):
    pool = create(actor)
    settings.SLIPWAY = dataclasses.replace(web, kubeconfig="")
    update_pool(actor=actor, pool=pool, min_pods=7)
    assert Pool.objects.get().min_pods == 7
