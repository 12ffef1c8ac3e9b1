"""`scripts/demo --story` on processes of this machine, as people run it."""

import json
import os
import signal

from tests.support import demo

STEPS = [
    "pool_from_zero",
    "ten_plans",
    "pods_created",
    "applies_held",
    "three_confirmed",
    "scale_down_refused",
    "freeze_entered",
    "work_waits",
    "freeze_left",
    "warm_again",
    "applied_once",
    "back_to_zero",
]


def test_the_story_holds_on_local_processes(demo_directory, terraform):
    result = demo.run(demo_directory, "--story", "--json")
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    told = json.loads(result.stdout)
    assert (told["status"], told["kind"], told["error"]) == ("complete", "local", "")
    assert [step["name"] for step in told["steps"]] == STEPS
    facts = {step["name"]: step["facts"] for step in told["steps"]}
    assert facts["pool_from_zero"]["pods"] == 0
    assert facts["ten_plans"] | {"reason": ""} == {"plans": 10, "desired": 4, "reason": ""}
    assert sum(facts["applies_held"]["by_pod"].values()) == 10
    assert facts["three_confirmed"]["paths"] == ["held"] * 3
    refused = facts["scale_down_refused"]
    assert (refused["desired"], refused["pods"], len(refused["staying"])) == (3, 4, 4)
    assert all("ready" in reason for reason in refused["staying"].values())
    assert (facts["freeze_entered"]["pods"], facts["freeze_entered"]["waiting"]) == (0, 7)
    assert all("is frozen until" in reason for reason in facts["work_waits"]["waiting_reasons"])
    assert facts["warm_again"]["held"] == 6
    assert facts["back_to_zero"]["pods"] == 0

    # What really happened, without asking Slipway.
    created = (demo_directory / "ledger").read_text().split()
    assert len(created) == len(set(created)) == 4
    for step in told["steps"]:
        assert step["seen"] in result.stderr, "each step is shown as it comes"
    assert demo.left(demo_directory) == []


def test_an_interrupted_story_leaves_no_process(demo_directory, terraform):
    with demo.start(demo_directory, "--story") as program:
        demo.read_until(program, "apply held")
        assert any("terraform" in " ".join(words) for words in demo.left(demo_directory))
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=150)
    assert program.returncode == 130
    assert demo.left(demo_directory) == []


def test_a_step_that_fails_ends_the_story_with_its_log(demo_directory, terraform, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = programs / "terraform"
    fake.write_text(
        "#!/bin/sh\n"
        'case "$1" in plan) echo "Error: nothing is planned today" >&2; exit 1 ;; esac\n'
        f'exec {terraform} "$@"\n'
    )
    fake.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    result = demo.run(demo_directory, "--story", "--json", PATH=path)
    told = json.loads(result.stdout)
    assert (result.returncode, told["status"]) == (1, "error")
    assert [step["name"] for step in told["steps"]] == STEPS[: len(told["steps"])]
    assert "is failed" in told["error"] and "nothing is planned today" in told["error"]
    assert demo.left(demo_directory) == []
