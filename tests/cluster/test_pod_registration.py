"""Agents prove by the token of their pod's service account which pod they are."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
import uuid

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from agents_app.models import Agent
from pods_app.cluster.registration import PodIdentity, review_pod
from pods_app.models import ManagedPod, Pool
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
from tasks_app.exceptions import NotPermitted, Unauthenticated
from tasks_app.models import Event
from tests.db.agents_api.conftest import hub
from tests.support.agents_api import register_request, send
from tests.support.factories import make_pool

__all__ = ["hub"]  # of each test's own, as for the agents' API

pytestmark = pytest.mark.django_db(transaction=True)

AUDIENCE = "https://slipway.example"


@pytest.fixture
def web(slipway, space, settings):
    """Slipway as a web process: its account may review tokens."""
    settings.SLIPWAY = dataclasses.replace(slipway, kubeconfig=str(space.kubeconfig("slipway-web")))
    return settings.SLIPWAY


@pytest.fixture
def pod(slipway, space, transactional_db):
    """A pod as the controller makes it; the cluster's object."""
    reconcile_pods(make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1))
    (made,) = space.all_pods()
    return made


@pytest.fixture
def token(pod, space):
    return space.token("slipway-agent", audience=AUDIENCE, pod=pod)


def register(token, pod, **changes):
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    body = register_request(**{"pod_name": name, "pod_uid": uid, **changes})
    return send("POST", "register", token=token, body=body)


def refused():
    return list(
        Event.objects.filter(kind="pod.registration_refused").values_list("cause", flat=True)
    )


def test_the_pods_own_token_lets_its_agent_in(pod, token, web):
    reply = register(token, pod)
    assert reply.status == 200, reply.json
    row = ManagedPod.objects.get()
    assert (row.phase, row.pod_uid) == (PodPhase.ONLINE, pod["metadata"]["uid"])
    assert str(Agent.objects.get().pk) == row.agent_id


def test_a_lost_reply_is_repeated_with_the_same_key(pod, token, web):
    key = str(uuid.uuid4())
    first = register(token, pod, registration_key=key)
    again = register(token, pod, registration_key=key)
    assert (first.status, again.status) == (200, 200)
    assert first.json["agent_id"] == again.json["agent_id"]
    assert not refused()


def test_a_second_agent_of_the_same_pod_is_refused_and_audited(pod, token, web):
    first = register(token, pod)
    second = register(token, pod)
    assert (first.status, second.status) == (200, 403)
    assert "has registered already" in second.json["detail"]
    third = register(token, pod)
    assert third.status == 403
    (cause,) = refused()
    assert "another one with its token" in cause, "noted once, not at each try"


def test_a_token_of_another_pod_is_refused_and_audited(pod, token, web, space):
    other = {"metadata": {"name": "pool-7", "uid": str(uuid.uuid4())}}
    reply = register(token, other)
    assert reply.status == 403
    assert "The token is that of pod pool-0" in refused()[0]


def test_a_token_for_somebody_else_is_refused(pod, web, space):
    token = space.token("slipway-agent", audience="https://kubernetes.default.svc", pod=pod)
    assert register(token, pod).status == 401
    token = space.token("slipway-agent", audience="https://other.example", pod=pod)
    assert register(token, pod).status == 401


def test_a_token_of_a_pod_that_is_gone_is_refused(pod, token, web, space):
    space.remove(pod)
    assert register(token, pod).status == 401


def signed_anew(token, key, **claims):
    """Return a service account's token with other claims, signed by the cluster's own key."""
    head, body, _ = token.split(".")
    facts = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    body = base64.urlsafe_b64encode(json.dumps({**facts, **claims}).encode()).rstrip(b"=")
    signed = head.encode() + b"." + body
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_an_expired_token_is_refused(pod, token, web, space):
    """The shortest life that the cluster gives is ten minutes: this one's is made to be over."""
    file = space.access.directory / "service-accounts.key"
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    now = int(time.time())
    expired = signed_anew(token, key, iat=now - 700, nbf=now - 700, exp=now - 60)
    assert register(expired, pod).status == 401
    with pytest.raises(Unauthenticated, match="not meant for"):
        review_pod(expired)
    assert not Agent.objects.exists()
    alike = signed_anew(token, key, iat=now - 700, nbf=now - 700, exp=now + 60)
    assert register(alike, pod).status == 200, "by its time alone"


def test_a_token_that_the_cluster_did_not_sign_is_refused(pod, token, web):
    forged = signed_anew(token, rsa.generate_private_key(65537, 2048))
    assert register(forged, pod).status == 401
    assert not Agent.objects.exists()


def test_another_account_is_refused_and_audited(pod, web, space):
    token = space.token("slipway-web", audience=AUDIENCE)
    reply = register(token, pod)
    assert reply.status == 403
    assert "not as system:serviceaccount" in refused()[0]


def test_a_token_that_is_bound_to_no_pod_is_refused(pod, web, space):
    token = space.token("slipway-agent", audience=AUDIENCE)
    with pytest.raises(NotPermitted, match="not bound to a pod"):
        review_pod(token)


def test_the_cluster_names_the_pod(pod, token, web):
    assert review_pod(token) == PodIdentity("pool-0", pod["metadata"]["uid"])


def test_a_pod_that_is_not_entered_yet_tries_again(pod, token, web):
    ManagedPod.objects.update(pod_uid="")
    reply = register(token, pod)
    assert (reply.status, reply.problem) == (503, "pod-not-entered")
    assert not refused()


def test_a_pod_that_is_over_is_refused_and_audited(pod, token, web):
    ManagedPod.objects.update(phase=PodPhase.GONE, phase_reason="evicted")
    assert register(token, pod).status == 403
    assert "is over: evicted" in refused()[0]


def test_a_pool_token_brings_nobody_into_a_pods_place(pod, web):
    from pods_app.registration import create_pool_token
    from tasks_app.actors import Actor

    _, token = create_pool_token(actor=Actor.system("test"), pool=Pool.objects.get(), name="x")
    assert register(token, pod).status == 403
    assert register(token, pod, pod_uid="mine").status == 403
    assert len(refused()) == 2
    assert register(token, pod, pod_name="static", pod_uid="mine").status == 200


def test_without_the_right_to_review_agents_wait(pod, token, slipway):
    """The controller's account has it not; the sentence says what to grant."""
    reply = register(token, pod)
    assert reply.status == 503
    assert "tokenreviews" in reply.json["detail"]


def test_a_service_account_token_means_nothing_where_there_is_no_cluster(settings, pod, token):
    settings.SLIPWAY = dataclasses.replace(settings.SLIPWAY, kubeconfig="")
    reply = register(token, pod)
    assert reply.status == 401
    assert "create_pool_token" in reply.json["detail"]
