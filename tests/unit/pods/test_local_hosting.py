"""Local pods: what is kept of an agent, and how often it is asked to end."""

from dataclasses import replace

import pytest

from pods_app.hosting.local import LocalHosting
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
