import hashlib

import pytest

from agents_app.models import LeaseArtifact
from agents_app.schema import DIGEST_HEADER, INCARNATION_HEADER
from agents_app.services.recovered_states import recovered_states
from pods_app.leases import end
from tasks_app.blobs import CHUNK_BYTES
from tasks_app.models import Blob, BlobChunk, Event
from tests.support.factories import make_configuration, make_task, make_workspace

BIG = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"end"


def test_a_content_comes_back_as_it_went_in_and_lies_encrypted(agent, planning):
    assert agent.put_artifact("plan_bundle", BIG).status == 200
    reply = agent.call("GET", "artifacts/plan_bundle")
    assert reply.status == 200
    assert reply.content == BIG
    assert reply.headers[DIGEST_HEADER] == hashlib.sha256(BIG).hexdigest()
    assert reply.headers["Content-Length"] == str(len(BIG))
    assert INCARNATION_HEADER in reply.headers
    blob = LeaseArtifact.objects.get().blob
    stored = [bytes(row.ciphertext) for row in BlobChunk.objects.filter(blob=blob)]
    assert len(stored) == 4
    assert not any(BIG[:64] in ciphertext for ciphertext in stored)


def test_repeating_an_upload_is_harmless(agent, planning):
    for _ in range(2):
        assert agent.put_artifact("plan_json", b"{}").status == 200
    assert LeaseArtifact.objects.count() == 1
    assert Blob.objects.filter(retention="plan").count() == 1


def test_a_plan_may_be_replaced_until_its_end_was_reported(agent, planning):
    agent.put_artifact("plan_text", b"first")
    assert agent.put_artifact("plan_text", b"second").status == 200
    assert agent.call("GET", "artifacts/plan_text").content == b"second"
    assert Blob.objects.filter(retention="plan").count() == 1, "the replaced one is gone"
    assert agent.finish_plan().json == {"directive": "hold"}
    reply = agent.put_artifact("plan_text", b"another text than the one that was read")
    assert (reply.status, reply.problem) == (409, "conflict")
    assert agent.put_artifact("plan_text", b"{}plan_text").status == 200, "the same is harmless"


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "é"])
def test_a_missing_or_malformed_digest_is_400(agent, planning, digest):
    headers = {DIGEST_HEADER: digest} if digest else {}
    reply = agent.put_artifact("plan_json", b"{}", headers=headers)
    assert (reply.status, reply.json["field"]) == (400, DIGEST_HEADER)


def test_a_damaged_content_is_not_stored(agent, planning):
    reply = agent.put_artifact("plan_json", b"{}", headers={DIGEST_HEADER: "0" * 64})
    assert (reply.status, reply.json["field"]) == (400, DIGEST_HEADER)
    assert not LeaseArtifact.objects.exists()
    assert not Blob.objects.filter(retention="plan").exists()


def test_a_content_over_the_limit_is_413_and_not_stored(agent, planning, settings):
    from dataclasses import replace

    settings.SLIPWAY = replace(settings.SLIPWAY, bundle_bytes_max=10)
    assert agent.put_artifact("plan_bundle", b"x" * 10).status == 200
    reply = agent.put_artifact("plan_bundle", b"x" * 11)
    assert (reply.status, reply.problem) == (413, "too-large")
    assert agent.call("GET", "artifacts/plan_bundle").content == b"x" * 10


def test_what_is_not_stored_or_no_artifact_is_404(agent, planning):
    assert agent.call("GET", "artifacts/plan_bundle").status == 404
    assert agent.call("GET", "artifacts/passwords").status == 404
    assert agent.put_artifact("passwords", b"x").status == 404


def test_an_empty_content_is_a_content(agent, planning):
    assert agent.put_artifact("plan_text", b"").status == 200
    assert agent.call("GET", "artifacts/plan_text").content == b""


def test_the_configuration_of_the_task_is_streamed(agent):
    workspace = make_workspace(configured=False)
    make_configuration(workspace, BIG)
    make_task(workspace)
    reply = agent.call("GET", "configuration")
    assert (reply.status, reply.content) == (200, BIG)
    assert reply.headers[DIGEST_HEADER] == hashlib.sha256(BIG).hexdigest()


def test_a_content_whose_key_is_lost_is_503_and_not_half_a_reply(agent, planning):
    agent.put_artifact("plan_bundle", BIG)
    BlobChunk.objects.update(key_id="gone")
    reply = agent.call("GET", "artifacts/plan_bundle")
    assert (reply.status, reply.problem) == (503, "decryption-failed")


def test_a_recovered_state_is_kept_of_a_lease_that_is_over_and_never_replaced(
    agent, planning, admin
):
    lease = agent.lease
    end(lease, actor=admin, reason="fenced by a verdict")
    assert agent.put_artifact("plan_bundle", b"x", lease=lease).status == 409
    assert agent.put_artifact("recovered_state", b"{}", lease=lease).status == 200
    assert agent.put_artifact("recovered_state", b"{}", lease=lease).status == 200
    assert agent.put_artifact("recovered_state", b"[]", lease=lease).status == 409
    found = recovered_states(planning).get()
    assert (found.lease, found.blob.size) == (lease, 2)
    assert found.blob.retention == "state"


def test_another_agents_lease_is_404_and_has_no_effect(agent, planning, new_agent):
    other = new_agent("b")
    lease = agent.lease
    assert other.put_artifact("plan_json", b"{}", lease=lease).status == 404
    assert other.call("GET", "configuration", lease).status == 404
    assert not LeaseArtifact.objects.exists()


def test_a_stale_epoch_is_409_audited_and_has_no_effect(agent, planning):
    reply = agent.put_artifact("plan_json", b"{}", epoch=7)
    assert (reply.status, reply.problem) == (409, "stale-lease")
    assert not LeaseArtifact.objects.exists()
    event = Event.objects.get(kind="agent.stale_write")
    assert (event.lease_id, event.task) == (agent.lease.pk, planning)
    assert event.actor == f"agent:{agent.reply['agent_id']}"
    assert event.data == {"call": "PUT plan_json", "epoch": 7}
