"""What is made of the cluster's review of a token, whatever kind of cluster it is."""

import pytest

from pods_app.cluster import registration
from pods_app.cluster.registration import PodIdentity, review_pod
from tasks_app.exceptions import NotPermitted, Unauthenticated

AUDIENCE = "https://slipway.example"
EXTRA = {
    "authentication.kubernetes.io/pod-name": ["pool-0"],
    "authentication.kubernetes.io/pod-uid": ["uid-0"],
}
USER = {"username": "system:serviceaccount:slipway:slipway-agent", "extra": EXTRA}


@pytest.fixture
def reviewed(monkeypatch, settings):
    """Return the outcome for a review's status."""
    import dataclasses

    settings.SLIPWAY = dataclasses.replace(settings.SLIPWAY, url=AUDIENCE)

    def outcome(**status):
        class Fake:
            namespace = "slipway"

            def review(self, token, audience):
                assert (token, audience) == ("token", AUDIENCE)
                return status

        monkeypatch.setattr(registration, "cluster", Fake)
        return review_pod("token")

    return outcome


def test_a_token_of_an_agents_pod_names_it(reviewed):
    status = {"authenticated": True, "audiences": [AUDIENCE], "user": USER}
    assert reviewed(**status) == PodIdentity("pool-0", "uid-0")


def test_a_cluster_that_does_not_know_audiences_proves_nothing(reviewed):
    """It says that the token is good, and not for whom (TokenReviewStatus.audiences)."""
    for audiences in ([], ["https://kubernetes.default.svc"], None):
        with pytest.raises(Unauthenticated):
            reviewed(authenticated=True, audiences=audiences, user=USER)


def test_no_answer_is_no_identity(reviewed):
    with pytest.raises(Unauthenticated):
        reviewed()
    with pytest.raises(Unauthenticated):
        reviewed(error="the authenticator is down", audiences=[AUDIENCE], user=USER)


@pytest.mark.parametrize("name", EXTRA)
@pytest.mark.parametrize("values", [[], ["a", "b"], None])
def test_a_token_must_name_one_pod(reviewed, name, values):
    user = {**USER, "extra": {**EXTRA, name: values}}
    with pytest.raises(NotPermitted, match="not bound to a pod"):
        reviewed(authenticated=True, audiences=[AUDIENCE], user=user)


def test_another_namespace_is_another_account(reviewed):
    user = {**USER, "username": "system:serviceaccount:other:slipway-agent"}
    with pytest.raises(NotPermitted, match="Agents' pods run as"):
        reviewed(authenticated=True, audiences=[AUDIENCE], user=user)
