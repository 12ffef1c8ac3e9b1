"""Full disks: an apply keeps its state, and nothing starts that could not be written down."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents_app.runner.apply import run_apply
from agents_app.runner.plan import run_plan
from agents_app.schema import Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.programs import wait_until
from tests.support.requirements import missing
from tests.support.runner import Permit, append, apply_beside, backend, lines, plan, variable


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(path)], capture_output=True
    )
    if mount.returncode:
        missing("mounting a small tmpfs needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "fill").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def test_on_a_full_disk_the_state_is_found_in_the_output(
    make_bench: MakeBench,
    state_server: HttpState,
    small_disk: Path,
    tmp_path: Path,
    counter: Path,
) -> None:
    secret = "the-secret-in-the-state"
    started, gate = tmp_path / "started", tmp_path / "gate"
    before = f"echo x > {started} && until [ -e {gate} ]; do :; done"
    files = {
        "main.tf": append(counter, before)
        + 'variable "secret" {\n  sensitive = true\n}\n'
        + 'resource "terraform_data" "secret" {\n  input = [var.secret, 1.10]\n}\n'
    }
    bench = make_bench(
        files,
        backend=backend(state_server.address),
        variables=[variable("secret", secret, sensitive=True)],
    )
    bench.base = small_disk / "base"
    confirmed = plan(bench)
    run = bench.run("apply", confirmed)
    thread, outcomes = apply_beside(run, Permit())
    wait_until(lambda: lines(started), "the resource")
    state_server.replies["POST"] = 403
    _fill(small_disk)
    gate.touch()
    thread.join()

    outcome = outcomes[0]
    assert outcome.recovered_state is not None, (outcome, bench.log("apply"))
    assert outcome.outcome == Outcome.FAILED
    state = json.loads(outcome.recovered_state.read_text())
    assert {one["name"] for one in state["resources"]} == {"one", "secret"}
    assert secret in outcome.recovered_state.read_text()
    assert secret not in bench.log("apply")


def test_a_disk_without_room_for_the_output_starts_nothing(
    make_bench: MakeBench, small_disk: Path, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    bench.base = small_disk / "base"
    confirmed = plan(bench)
    _fill(small_disk)
    permit = Permit()
    outcome = run_apply(bench.run("apply", confirmed), permit)
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    assert not permit.asked and lines(counter) == 0


def test_a_plan_on_a_full_disk_is_not_shown_as_planned(
    make_bench: MakeBench, small_disk: Path, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    run = bench.run("plan")
    # Only the plan file lies on the full disk: Terraform succeeds and leaves an empty one.
    run.directory.plan_file = small_disk / "plan.out"
    _fill(small_disk)
    outcome = run_plan(run)
    assert outcome.outcome == Outcome.FAILED and outcome.result is None
    assert "disk full" in outcome.error, outcome


def test_a_journal_that_cannot_be_written_starts_nothing(
    make_bench: MakeBench, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)

    def fail(point: str) -> None:
        if point == "before spawning apply":
            raise OSError(28, "No space left on device")

    outcome = run_apply(bench.run("apply", confirmed, hook=fail), Permit())
    assert outcome.outcome == Outcome.NOT_STARTED and "No space left" in outcome.error
    assert lines(counter) == 0
