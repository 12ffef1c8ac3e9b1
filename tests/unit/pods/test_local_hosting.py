"""Local pods: what is kept of an agent, and how often it is asked to end."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest

from pods_app.hosting.local import LocalHosting, start_time
from pods_app.models import ManagedPod


@pytest.fixture
def pod(settings, tmp_path):
    settings.SLIPWAY = replace(settings.SLIPWAY, agents_directory=tmp_path)
    pod = ManagedPod(pod_name="local-0", pod_uid="uid")
    (tmp_path / "local-0" / "uid").mkdir(parents=True)
    return pod


@pytest.mark.parametrize("place", ["recovered/lease-errored.tfstate", "leases/lease/one.tfstate"])
def test_a_state_that_is_nowhere_else_is_kept(pod, tmp_path, place, caplog):
    saved = tmp_path / "local-0" / "uid" / place
    saved.parent.mkdir(parents=True)
    saved.touch()
    LocalHosting().forget(pod)
    assert saved.exists() and str(saved) in caplog.text


def test_without_one_everything_goes(pod, tmp_path):
    (tmp_path / "local-0" / "uid" / "leases").mkdir()
    LocalHosting().forget(pod)
    assert not (tmp_path / "local-0" / "uid").exists()


def test_what_an_agent_tried_when_it_was_killed_ends(pod, tmp_path):
    probe = tmp_path / "local-0" / "uid" / "probe"
    probe.mkdir()
    left = subprocess.Popen(["sleep", "600"], cwd=probe)
    bystander = subprocess.Popen(["sleep", "600"], cwd=tmp_path / "local-0")
    LocalHosting().forget(pod)
    assert left.wait(60) == -signal.SIGKILL
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_another_controller_asks_no_second_time(pod, tmp_path, monkeypatch):
    """A second signal would make the agent interrupt Terraform."""
    pod.process_id, pod.process_started = os.getpid(), start_time(os.getpid())
    sent = []
    monkeypatch.setattr(os, "kill", lambda *signal: sent.append(signal))
    for _ in range(2):
        assert LocalHosting().delete(pod)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    LocalHosting().forget(pod)
    assert list((tmp_path / "local-0").iterdir()) == []
