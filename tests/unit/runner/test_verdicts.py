"""What Terraform's end means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents_app.runner.apply import _verdict
from agents_app.runner.engines import LocalEngine
from agents_app.runner.plan import _has_changes
from agents_app.runner.rescue import not_saved
from agents_app.runner.run import Finished, Run
from agents_app.schema import Diagnostic, Outcome
from tests.support.runner import Bench, Source, job, tar_gz

_UNLOCK = "Error releasing the state lock"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    source = Source(tar_gz({"main.tf": ""}))
    bench = Bench(tmp_path, source, job(source), LocalEngine("terraform", "1.11.4", ("x",)))
    yield bench.run("apply")
    bench.close()


def _finished(code: int | None, *errors: str, **changes: Any) -> Finished:
    facts: dict[str, Any] = {
        "exit_code": code,
        "ran": True,
        "interrupted": False,
        "stdout": Path("/nonexistent"),
        "stderr": "",
        "diagnostics": [Diagnostic(severity="error", summary=one) for one in errors],
        "completed": False,
    }
    return Finished(**facts | changes)


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (_finished(0), Outcome.APPLIED),
        (_finished(1, "It failed"), Outcome.FAILED),
        (_finished(1), Outcome.FAILED),
        (_finished(1, _UNLOCK), Outcome.APPLIED),
        (_finished(1, "It failed", _UNLOCK), Outcome.FAILED),
        (_finished(None), Outcome.INTERRUPTED),
        (_finished(None, completed=True), Outcome.APPLIED),
        (_finished(137), Outcome.INTERRUPTED),
        (_finished(137, _UNLOCK), Outcome.INTERRUPTED),
        (_finished(2), Outcome.INTERRUPTED),
        (_finished(11), Outcome.INTERRUPTED),
        (_finished(127), Outcome.NOT_STARTED),
        (_finished(126), Outcome.NOT_STARTED),
        (_finished(None, ran=False), Outcome.NOT_STARTED),
        (_finished(1, ran=False), Outcome.NOT_STARTED),
    ],
)
def test_without_a_request_to_stop(run: Run, finished: Finished, expected: Outcome) -> None:
    assert _verdict(run, finished).outcome == expected


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (_finished(0), Outcome.APPLIED),
        (_finished(1, "execution halted"), Outcome.CANCELLED),
        (_finished(1, _UNLOCK), Outcome.APPLIED),
        (_finished(130), Outcome.INTERRUPTED),
        (_finished(None), Outcome.INTERRUPTED),
    ],
)
def test_after_the_signal_of_a_cancel(run: Run, finished: Finished, expected: Outcome) -> None:
    assert _verdict(run, replace(finished, interrupted=True)).outcome == expected


def test_a_failure_before_the_signal_of_a_cancel_is_a_failure(run: Run) -> None:
    run.control.interrupt()
    assert _verdict(run, _finished(1, "It failed")).outcome == Outcome.FAILED


@pytest.mark.parametrize("code", [None, 137])
def test_after_a_kill(run: Run, code: int | None) -> None:
    run.control.kill()
    outcome = _verdict(run, _finished(code))
    assert outcome.outcome == Outcome.INTERRUPTED and "killed" in outcome.error


def test_states_that_were_not_saved_are_recognised() -> None:
    assert not_saved(["x", "Failed to persist state to backend"])
    assert not_saved(["Failed to save state"])
    assert not not_saved(["Error releasing the state lock"])


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"applyable": True}, True),
        ({"applyable": False, "resource_changes": [{"change": {"actions": ["update"]}}]}, False),
        ({}, False),
        ({"resource_changes": [{"change": {"actions": ["no-op"]}}]}, False),
        ({"resource_changes": [{"change": {"actions": ["read"]}}]}, False),
        ({"resource_changes": [{"change": {"actions": ["forget"]}}]}, True),
        (
            {"resource_changes": [{"previous_address": "a.b", "change": {"actions": ["no-op"]}}]},
            True,
        ),
        ({"output_changes": {"x": {"actions": ["create"]}}}, True),
        ({"output_changes": {"x": {"actions": ["no-op"]}}}, False),
    ],
)
def test_what_counts_as_a_change(document: dict[str, Any], expected: bool) -> None:
    assert _has_changes(document) is expected


@pytest.mark.parametrize(
    ("name", "severity", "expected"),
    [
        ("slipway-gate-1234567890ab.auto.tfvars", "error", Outcome.NOT_STARTED),
        ("slipway-gate-1234567890ab.auto.tfvars", "warning", Outcome.FAILED),
        ("slipway-gate-mine.auto.tfvars", "error", Outcome.FAILED),
    ],
)
def test_only_its_own_closed_gate_proves_that_nothing_was_applied(
    run: Run, tmp_path: Path, name: str, severity: str, expected: Outcome
) -> None:
    """A configuration may have files named like a gate, and Terraform may complain of them."""
    (tmp_path / "gate").write_text("/work/config/slipway-gate-1234567890ab.auto.tfvars")
    complaint = Diagnostic(severity=severity, summary="It complains", filename=name)
    finished = _finished(1, stdout=tmp_path / "stdout", diagnostics=[complaint])
    assert _verdict(run, finished).outcome == expected
