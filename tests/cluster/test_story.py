"""`scripts/demo --story --kubeconfig` on the cluster of `tests.tools.cluster`, run as people do."""

import json
import signal
import sys

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from tests.support import demo
from tests.support.programs import Program, end_processes_below, processes_below, wait_until
from tests.support.requirements import missing, require
from tests.tools import apiserver, build
from tests.tools.cluster import NAMESPACE


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a cluster that runs as its documentation says."""
    require("go")
    try:
        apiserver.programs()  # the first time takes longer than a cluster may to start
    except build.BuildFailed as error:
        missing(f"the API server cannot be built: {error}")
    directory = tmp_path_factory.mktemp("cluster")
    command = [sys.executable, "-m", "tests.tools.cluster", str(directory)]
    program = Program("cluster", command, demo.surroundings(), directory.with_suffix(".log"))
    program.start()
    try:
        wait_until(lambda: _ready(program), "the cluster runs")
        yield directory
        program.signal(signal.SIGINT)
        assert program.wait() == 0, program.log_end()
        assert processes_below(directory) == []
    finally:
        program.kill()
        end_processes_below(directory)


def _ready(program):
    assert program.alive, program.log_end()
    return "Ctrl+C ends the cluster" in program.log_end()


def pods(cluster):
    """Return the names of the pods that the cluster has, asked with the rights of the story."""
    client = new_client_from_config(str(cluster / "kubeconfig"))
    with client:
        return [pod.metadata.name for pod in CoreV1Api(client).list_namespaced_pod(NAMESPACE).items]


def test_the_story_holds_in_kubernetes(cluster, demo_directory, terraform):
    kubeconfig = str(cluster / "kubeconfig")
    result = demo.run(demo_directory, "--story", "--json", "--kubeconfig", kubeconfig)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    told = json.loads(result.stdout)
    assert (told["status"], told["kind"], told["error"]) == ("complete", "kubernetes", "")
    facts = {step["name"]: step["facts"] for step in told["steps"]}
    assert len(facts) == 12
    assert sorted(facts["pods_created"]["slots"].values()) == [3, 3, 3, 3]
    assert facts["applies_held"]["held"] == 10
    assert facts["three_confirmed"]["paths"] == ["held"] * 3
    refused = facts["scale_down_refused"]
    assert (refused["desired"], refused["pods"], len(refused["staying"])) == (3, 4, 4)
    assert (facts["freeze_entered"]["pods"], facts["freeze_entered"]["waiting"]) == (0, 7)
    assert facts["warm_again"]["held"] == 6
    assert (facts["applied_once"]["applied"], facts["applied_once"]["waiting"]) == (4, 6)
    assert demo.left(demo_directory) == []
    assert pods(cluster) == []


def test_an_interrupted_story_leaves_no_pod(cluster, demo_directory, terraform):
    kubeconfig = str(cluster / "kubeconfig")
    with demo.start(demo_directory, "--story", "--kubeconfig", kubeconfig) as program:
        demo.read_until(program, "pods created and online")
        assert len(pods(cluster)) == 4
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=150)
    assert program.returncode == 130
    assert pods(cluster) == []
    wait_until(lambda: demo.left(demo_directory) == [], "what ran in the pods has ended")
