"""Which directory an apply uses, and that it applies what was reviewed or nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agents_app.runner.apply import run_apply
from agents_app.runner.plan import run_plan
from agents_app.schema import ApplyPath, Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.requirements import require
from tests.support.runner import Permit, append, backend, lines, plan, tar_gz


def _script(target: Path) -> dict[str, str]:
    return {
        "main.tf": (
            'resource "terraform_data" "one" {\n  provisioner "local-exec" {\n'
            f'    command = "./write.sh {target}"\n  }}\n}}\n'
        ),
        "write.sh*": '#!/bin/sh\necho reviewed >> "$1"\n',
    }


def test_an_unchanged_directory_is_applied_without_init(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    bench = make_bench(_script(target))
    confirmed = plan(bench)
    permit = Permit()
    outcome = run_apply(bench.run("apply", confirmed), permit)

    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert target.read_text() == "reviewed\n"
    assert permit.asked[0]["path"] == ApplyPath.KEPT
    assert [event["what"] for event in bench.events("apply")] == ["apply"]
    assert "Starting from the kept work directory" in bench.log("apply")
    assert "Apply complete!" in bench.log("apply")
    names = [step.name for step in bench.steps]
    assert names[-5:] == ["spawn", "permit", "gate", "first_action", "apply"]
    assert not bench.directory.home.exists()


@pytest.mark.parametrize("change", ["edit", "mode", "add", "remove", "link", "plan", "manifest"])
def test_a_changed_directory_is_set_aside_and_the_servers_copy_applied(
    make_bench: MakeBench, tmp_path: Path, change: str
) -> None:
    target = tmp_path / "target"
    bench = make_bench(_script(target))
    confirmed = plan(bench)
    script = bench.directory.config / "write.sh"
    match change:
        case "edit":
            script.write_text('#!/bin/sh\necho changed! >> "$1"\n')
        case "mode":
            script.chmod(0o644)
        case "add":
            (bench.directory.config / "extra.auto.tfvars").write_text("x = 1\n")
        case "remove":
            script.unlink()
        case "link":
            moved = tmp_path / "elsewhere.sh"
            script.rename(moved)
            script.symlink_to(moved)
        case "plan":
            content = bytearray(bench.directory.plan_file.read_bytes())
            content[len(content) // 2] ^= 1
            bench.directory.plan_file.write_bytes(content)
        case "manifest":
            (bench.directory.path / "manifest.json").write_text("{}")
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome
    assert "was changed" in outcome.path_reason and "set aside" in outcome.path_reason
    assert target.read_text() == "reviewed\n"
    assert [path.name[:36] for path in (bench.base / "quarantine").iterdir()] == [
        str(bench.job.task_id)
    ]


def test_a_removed_directory_takes_the_normal_path(make_bench: MakeBench, tmp_path: Path) -> None:
    target = tmp_path / "target"
    bench = make_bench(_script(target))
    confirmed = plan(bench)
    shutil.rmtree(bench.directory.path)
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome
    assert outcome.path_reason == "The work directory is not on this agent any more."
    assert target.read_text() == "reviewed\n"


def test_a_plan_too_large_to_store_lives_only_in_its_directory(
    make_bench: MakeBench, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    bench.bundle_bytes_max = 100
    confirmed = plan(bench)
    assert not confirmed.bundle_stored
    shutil.rmtree(bench.directory.path)
    permit = Permit()
    outcome = run_apply(bench.run("apply", confirmed), permit)

    assert outcome.outcome == Outcome.FAILED
    assert "too large to be stored" in outcome.error and "plan again" in outcome.error
    assert not permit.asked and lines(counter) == 0


@pytest.mark.parametrize("harm", ["truncated", "replaced"])
def test_a_damaged_copy_is_never_applied(make_bench: MakeBench, counter: Path, harm: str) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    other = make_bench({"main.tf": append(counter, "echo other")})
    plan(other)
    (kind,) = (one for one in bench.source.artifacts if one == "plan_bundle")
    stored = bench.source.artifacts[kind]
    bench.source.artifacts[kind] = (
        stored[: len(stored) // 2] if harm == "truncated" else other.source.artifacts[kind]
    )
    shutil.rmtree(bench.directory.path)
    permit = Permit()
    outcome = run_apply(bench.run("apply", confirmed), permit)

    assert outcome.outcome == Outcome.FAILED and "plan again" in outcome.error
    assert not permit.asked and lines(counter) == 0


def test_a_plan_of_another_version_is_refused(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench).model_copy(update={"terraform_version": "1.0.0"})
    permit = Permit()
    outcome = run_apply(bench.run("apply", confirmed), permit)
    assert outcome.outcome == Outcome.FAILED and "plan again" in outcome.error
    assert not permit.asked and bench.directory.exists


@pytest.mark.parametrize("kept", [True, False])
def test_a_module_from_git_with_a_template(
    make_bench: MakeBench, tmp_path: Path, kept: bool
) -> None:
    git = require("git")
    module, target = tmp_path / "module", tmp_path / "target"
    module.mkdir()
    (module / "text.tftpl").write_text("Hello ${name}")
    (module / "main.tf").write_text(
        'resource "terraform_data" "one" {\n'
        f'  input = {{ target = "{target}" }}\n'
        '  provisioner "local-exec" {\n'
        '    command = "cat > $TARGET <<< \'\'; echo \\"$TEXT\\" > $TARGET"\n'
        '    interpreter = ["/bin/bash", "-c"]\n'
        f'    environment = {{ TARGET = "{target}", TEXT = templatefile('
        '"${path.module}/text.tftpl", { name = "module" }) }\n  }\n}\n'
    )
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "One"]):
        subprocess.run([git, "-C", str(module), *command], check=True)
    bench = make_bench(
        {"main.tf": f'module "greeting" {{\n  source = "git::file://{module}"\n}}\n'}
    )
    confirmed = plan(bench)
    shutil.rmtree(module)  # a module that moved on or went away must not matter
    if not kept:
        shutil.rmtree(bench.directory.path)
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert outcome.outcome == Outcome.APPLIED, (outcome, bench.log("apply"))
    assert outcome.path == (ApplyPath.KEPT if kept else ApplyPath.NORMAL)
    assert target.read_text() == "Hello module\n"


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_planning_wrote(
    make_bench: MakeBench, tmp_path: Path, provider_mirror: Path, kept: bool
) -> None:
    target = tmp_path / "target"
    bench = make_bench(
        {
            "main.tf": (
                'terraform {\n  required_providers {\n    fault = { source = "slipway/fault" }\n'
                "  }\n}\n"
                'data "fault_file" "built" {\n  path = "${path.module}/built.txt"\n'
                '  content = "built while planning"\n}\n'
                'resource "terraform_data" "one" {\n  provisioner "local-exec" {\n'
                f'    command = "cat ${{data.fault_file.built.path}} > {target}"\n  }}\n}}\n'
            )
        },
        upstream=provider_mirror,
    )
    confirmed = plan(bench)
    if not kept:
        shutil.rmtree(bench.directory.path)
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert outcome.outcome == Outcome.APPLIED, (outcome, bench.log("apply"))
    assert outcome.path == (ApplyPath.KEPT if kept else ApplyPath.NORMAL)
    assert target.read_text() == "built while planning"


_TIME = (
    'terraform {\n  required_providers {\n    time = { source = "hashicorp/time" }\n  }\n}\n'
    'resource "time_static" "one" {}\n'
)


def test_a_lock_file_of_another_platform_with_a_filled_mirror(
    make_bench: MakeBench, zipped_provider_mirror: Path
) -> None:
    first = make_bench({"main.tf": _TIME}, upstream=zipped_provider_mirror)
    plan(first)
    assert "registry.terraform.io/hashicorp/time 0.14.2" in first.run("x").mirror.packages()
    hashes = json.loads(next((first.base / "mirror-hashes").glob("*time*")).read_text())
    foreign = (
        'provider "registry.terraform.io/hashicorp/time" {\n  version = "0.14.2"\n  hashes = [\n'
        '    "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",\n'
        f'    "{hashes["zh"][0]}",\n  ]\n}}\n'
    )
    bench = make_bench(
        {"main.tf": _TIME, ".terraform.lock.hcl": foreign}, upstream=Path("/nonexistent")
    )
    confirmed = plan(bench)
    assert hashes["h1"] in (bench.directory.config / ".terraform.lock.hcl").read_text()
    shutil.rmtree(bench.directory.path)
    outcome = run_apply(bench.run("apply", confirmed), Permit())
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome


@pytest.mark.parametrize(
    "files",
    [
        {"main.tf": 'terraform {\n  backend "local" {\n    path = "/nonexistent/x"\n  }\n}\n'},
        {"main.tf": 'terraform {\n  cloud {\n    organization = "x"\n  }\n}\n'},
        {
            "main.tf": (
                'terraform {\n  backend "http" {\n    address = "http://127.0.0.1:1"\n  }\n}\n'
            )
        },
    ],
)
def test_slipways_backend_replaces_any_other(
    make_bench: MakeBench, state_server: HttpState, counter: Path, files: dict[str, str]
) -> None:
    bench = make_bench(
        {**files, "resource.tf": append(counter)}, backend=backend(state_server.address)
    )
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert outcome.outcome == Outcome.APPLIED, outcome
    assert json.loads(state_server.state)["serial"] >= 1


def test_an_override_cannot_send_the_state_elsewhere(
    make_bench: MakeBench, state_server: HttpState, tmp_path: Path
) -> None:
    bench = make_bench(
        {
            "main.tf": 'resource "terraform_data" "one" {}\n',
            "zz_override.tf": (
                f'terraform {{\n  backend "local" {{\n    path = "{tmp_path}/x"\n  }}\n}}\n'
            ),
        },
        backend=backend(state_server.address),
    )
    outcome = run_plan(bench.run("plan"))
    assert outcome.outcome == Outcome.FAILED and "override file" in outcome.error


def test_a_state_inside_the_work_directory_is_refused(make_bench: MakeBench) -> None:
    bench = make_bench({"main.tf": 'resource "terraform_data" "one" {}\n'})
    bench.source.archive = tar_gz({"main.tf": 'resource "terraform_data" "one" {}\n'})
    bench.job = bench.job.model_copy(update={"configuration_digest": bench.source.digest})
    outcome = run_plan(bench.run("plan"))
    assert outcome.outcome == Outcome.FAILED and "would be lost" in outcome.error
