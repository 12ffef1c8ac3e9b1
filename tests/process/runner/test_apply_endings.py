"""How an apply ends: its true outcome, its state never lost, never a second start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents_app.runner import process
from agents_app.runner.apply import run_apply
from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.hold import was_applied
from agents_app.runner.plan import run_plan
from agents_app.schema import Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.programs import wait_until
from tests.support.runner import (
    Permit,
    append,
    apply_beside,
    backend,
    environment_variable,
    lines,
    plan,
    reference,
    variable,
)


def _runs(pid: int) -> bool:
    return process.start_time(pid) is not None


def test_a_failing_resource(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter, "false")})
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert (outcome.outcome, outcome.exit_code) == (Outcome.FAILED, 1)
    assert outcome.error.startswith("local-exec provisioner error (main.tf line ")
    assert outcome.recovered_state is None


def test_a_denied_permit_starts_nothing(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    outcome = run_apply(bench.run("apply", plan(bench)), Permit(denial="The pool is frozen."))
    assert (outcome.outcome, outcome.error) == (Outcome.NOT_STARTED, "The pool is frozen.")
    assert lines(counter) == 0 and not was_applied(bench.directory.run)


def test_a_permit_that_expired_starts_nothing(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    permit = Permit(valid_seconds=0.05, before_grant=lambda: time.sleep(0.1))
    outcome = run_apply(bench.run("apply", plan(bench)), permit)
    assert outcome.outcome == Outcome.NOT_STARTED and "expired" in outcome.error
    assert lines(counter) == 0
    assert not was_applied(bench.directory.run)


def test_a_cancel_at_the_permit_starts_nothing(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    run = bench.run("apply", plan(bench))
    outcome = run_apply(run, Permit(before_grant=run.control.interrupt))
    assert outcome.outcome == Outcome.CANCELLED and lines(counter) == 0


def test_the_same_plan_is_never_applied_twice_even_if_it_were_permitted(
    make_bench: MakeBench, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    first = run_apply(bench.run("apply", confirmed), Permit())
    bench.runs[-1].directory.release()
    second = run_apply(bench.run("apply", confirmed), Permit())
    assert (first.outcome, second.outcome) == (Outcome.APPLIED, Outcome.FAILED)
    assert "before" in second.error
    assert lines(counter) == 1


def test_a_state_and_its_position(
    make_bench: MakeBench, state_server: HttpState, counter: Path
) -> None:
    """The permit compares what a plan was made on with the state of that moment."""
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    run = bench.run("plan")
    outcome = run_plan(run)
    assert outcome.result is not None
    assert (outcome.result.state_lineage, outcome.result.state_serial) == ("", None)
    bench.close()
    assert run_apply(bench.run("apply", reference(outcome)), Permit()).outcome == Outcome.APPLIED
    state = json.loads(state_server.state)

    again = make_bench(
        {"main.tf": append(counter) + 'output "new" {\n  value = 1\n}\n'},
        backend=backend(state_server.address),
    )
    result = run_plan(again.run("plan")).result
    assert result is not None and result.output_changes == 1
    assert (result.state_lineage, result.state_serial) == (state["lineage"], state["serial"])


_TWO = """
resource "terraform_data" "first" {{
  provisioner "local-exec" {{
    command = "echo started >> {started}; while [ ! -e {gate} ]; do sleep 0.02; done"
  }}
}}
resource "terraform_data" "second" {{
  depends_on = [terraform_data.first]
  provisioner "local-exec" {{
    command = "echo second >> {counter}"
  }}
}}
"""


def test_a_cancel_is_one_signal_that_saves_the_state_and_unlocks(
    make_bench: MakeBench, state_server: HttpState, tmp_path: Path, counter: Path
) -> None:
    started, gate = tmp_path / "started", tmp_path / "gate"
    files = {"main.tf": _TWO.format(started=started, gate=gate, counter=counter)}
    bench = make_bench(files, backend=backend(state_server.address))
    run = bench.run("apply", plan(bench))
    thread, outcomes = apply_beside(run, Permit())
    wait_until(lambda: lines(started), "the first resource")
    run.control.interrupt()
    wait_until((bench.directory.run / "apply" / "interrupted").exists, "the signal")
    gate.touch()
    thread.join()

    assert outcomes[0].outcome == Outcome.CANCELLED, outcomes
    assert lines(counter) == 0
    (resource,) = json.loads(state_server.state)["resources"]
    assert resource["name"] == "first"
    assert state_server.calls.count("UNLOCK") == 1


def test_a_kill_is_an_interruption_and_leaves_no_process(
    make_bench: MakeBench, tmp_path: Path, counter: Path
) -> None:
    started = tmp_path / "started"
    bench = make_bench({"main.tf": append(counter, f"echo $$ > {started} && sleep 600")})
    run = bench.run("apply", plan(bench))
    thread, outcomes = apply_beside(run, Permit())
    wait_until(lambda: lines(started), "the resource")
    run.control.kill()
    thread.join()
    assert outcomes[0].outcome == Outcome.INTERRUPTED, outcomes
    assert lines(counter) == 0
    assert not _runs(int(started.read_text()))


def test_terraform_killed_by_the_system_is_an_interruption(
    make_bench: MakeBench, tmp_path: Path, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.2)
    started = tmp_path / "started"
    bench = make_bench({"main.tf": append(counter, f"echo x > {started} && sleep 600")})
    run = bench.run("apply", plan(bench))
    thread, outcomes = apply_beside(run, Permit())
    wait_until(lambda: lines(started), "the resource")
    os.kill(int((bench.directory.run / "apply" / "pid").read_text()), signal.SIGKILL)
    thread.join()  # the orphaned provisioner is ended after its grace
    assert (outcomes[0].outcome, outcomes[0].exit_code) == (Outcome.INTERRUPTED, 137)


def test_a_killed_supervisor_does_not_hide_a_complete_apply(
    make_bench: MakeBench, tmp_path: Path, counter: Path
) -> None:
    started, gate = tmp_path / "started", tmp_path / "gate"
    bench = make_bench(
        {"main.tf": append(counter, f"echo x > {started} && until [ -e {gate} ]; do :; done")}
    )
    run = bench.run("apply", plan(bench))
    thread, outcomes = apply_beside(run, Permit())
    wait_until(lambda: lines(started), "the resource")
    supervisor = int((bench.directory.run / "apply" / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    time.sleep(0.1)
    assert thread.is_alive()
    gate.touch()
    thread.join()
    assert (outcomes[0].outcome, outcomes[0].exit_code) == (Outcome.APPLIED, None), outcomes
    assert lines(counter) == 1


def test_background_processes_of_provisioners_do_not_keep_the_slot(
    make_bench: MakeBench, tmp_path: Path, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.2)
    daemon = tmp_path / "daemon"
    bench = make_bench(
        {"main.tf": append(counter, f"(sleep 600 >/dev/null 2>&1 </dev/null & echo $! > {daemon})")}
    )
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert outcome.outcome == Outcome.APPLIED
    wait_until(lambda: not _runs(int(daemon.read_text())), "the daemon's end")


def test_a_state_that_could_not_be_saved_is_kept_outside(
    make_bench: MakeBench, state_server: HttpState, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    confirmed = plan(bench)
    state_server.replies["POST"] = 403
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert outcome.outcome == Outcome.FAILED and "kept" in outcome.error, outcome
    assert outcome.recovered_state is not None
    assert not outcome.recovered_state.is_relative_to(bench.directory.path)
    state = json.loads(outcome.recovered_state.read_text())
    assert [one["name"] for one in state["resources"]] == ["one"]
    assert outcome.recovered_state.stat().st_mode & 0o777 == 0o600


def test_an_errored_state_of_the_configuration_is_not_taken_for_the_applys(
    make_bench: MakeBench, counter: Path
) -> None:
    old = json.dumps({"version": 4, "serial": 9, "lineage": "old", "resources": []})
    bench = make_bench({"main.tf": append(counter), "errored.tfstate": old})
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert (outcome.outcome, outcome.recovered_state) == (Outcome.APPLIED, None)


def test_a_lock_that_was_not_released_does_not_make_it_a_failure(
    make_bench: MakeBench, state_server: HttpState, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    confirmed = plan(bench)
    state_server.replies["UNLOCK"] = 403
    outcome = run_apply(bench.run("apply", confirmed), Permit())
    assert outcome.outcome == Outcome.APPLIED, outcome
    assert [one.summary for one in outcome.diagnostics] == ["Error releasing the state lock"]
    assert json.loads(state_server.state)["resources"]


def test_a_refused_lock_applies_nothing(
    make_bench: MakeBench, state_server: HttpState, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    confirmed = plan(bench)
    state_server.replies["LOCK"] = 403
    outcome = run_apply(bench.run("apply", confirmed), Permit())
    assert outcome.outcome == Outcome.FAILED
    assert outcome.error == "Error acquiring the state lock."
    assert lines(counter) == 0


def test_secrets_stay_out_of_arguments_logs_and_results(
    make_bench: MakeBench, state_server: HttpState, tmp_path: Path
) -> None:
    secrets = ["variable-secret", "environment-secret", "backend-secret"]
    seen = tmp_path / "seen"
    command = f"tr '\\\\0' ' ' < /proc/$PPID/cmdline > {seen}; env | sort; exit 1"
    bench = make_bench(
        {
            "main.tf": 'variable "password" {}\nresource "terraform_data" "one" {\n'
            "  input = var.password\n"
            f'  provisioner "local-exec" {{\n    command = "{command}"\n  }}\n}}\n'
        },
        backend=backend(state_server.address, secrets[2]),
        variables=[variable("password", secrets[0], sensitive=True)],
        environment=[environment_variable("CLOUD_KEY", secrets[1], sensitive=True)],
    )
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert outcome.outcome == Outcome.FAILED
    text = bench.log("plan") + bench.log("apply") + repr(outcome)
    text += (bench.base / "journal" / f"{bench.job.task_id}-apply").read_text()
    assert "CLOUD_KEY=[redacted]" in text
    arguments = seen.read_text()
    assert "apply -input=false" in arguments
    for secret in secrets:
        assert secret not in text and secret not in arguments
    assert not bench.directory.home.exists()


def test_an_orphan_keeps_the_directory(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    plan(bench)
    directory = bench.directory
    directory.acquire()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=[directory.lock_descriptor],
    )
    directory.release()
    try:
        with pytest.raises(DirectoryInUse):
            bench.directory.acquire()
    finally:
        orphan.communicate()
    again = bench.directory
    again.acquire()
    again.release()


def test_a_report_that_fails_does_not_decide_the_apply(
    make_bench: MakeBench, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    run = bench.run("apply", plan(bench))

    def fail(step: object) -> None:
        raise OSError("the server is away")

    run.report = fail
    assert run_apply(run, Permit()).outcome == Outcome.APPLIED
    assert lines(counter) == 1
