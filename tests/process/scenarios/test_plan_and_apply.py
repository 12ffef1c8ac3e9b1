"""The main job: what was planned and reviewed is applied, held ready, from its directory or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks_app.models import Event
from tests.support.configurations import Counter, Files, counting
from tests.support.gitrepo import make_repository
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.sites import log


def test_a_plan_is_applied_by_the_terraform_that_was_held(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))

    task = site.plan()
    (waiting,) = platform.terraforms()
    assert "apply" in waiting.cmdline()
    assert (counter.lines, site.locked) == ([], False), "holding applies nothing"

    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["counted"])
    assert not waiting.is_running()
    assert site.resources == ["terraform_data.counted"]
    assert not site.locked
    assert "Apply complete" in log(task, "apply")
    wait_until(lambda: not site.directory(task).exists(), "the work directory is removed")

    again = site.wait(site.start(), "planned_and_finished")
    assert again.apply_path == ""


def test_a_plan_is_applied_from_its_kept_directory(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(hold_bytes_max="0")
    platform.start_agent()
    site = platform.site(counting(counter))

    task = site.plan()
    assert site.directory(task).is_dir()
    assert not platform.terraforms()

    site.apply(task)
    assert (task.apply_path, counter.lines) == ("kept", ["counted"])
    assert "holding is switched off" in task.apply_path_reason
    wait_until(lambda: not site.directory(task).exists(), "the work directory is removed")


def test_without_its_directory_a_plan_is_applied_by_the_normal_path(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    shutil.rmtree(site.directory(task))

    site.apply(task)
    assert (task.apply_path, counter.lines) == ("normal", ["counted"])
    assert "not on this agent any more" in task.apply_path_reason, "it says why"
    assert site.resources == ["terraform_data.counted"]


@pytest.mark.parametrize("what", ["script", "plan"])
def test_a_changed_directory_is_quarantined_and_never_applied(
    platform: Platform, counter: Counter, what: str
) -> None:
    platform.start_agent()
    site = platform.site(
        {
            "main.tf": """
resource "terraform_data" "scripted" {
  provisioner "local-exec" {
    command = "./script.sh"
  }
}
""",
            "script.sh": f"#!/bin/sh\necho reviewed >> {counter.path}\n",
        }
    )
    task = site.plan()
    directory = site.directory(task)
    if what == "script":
        (directory / "config" / "script.sh").write_text(
            f"#!/bin/sh\necho tampered >> {counter.path}\n"
        )
    else:
        with (directory / "plan.out").open("r+b") as plan:
            first = plan.read(1)
            plan.seek(0)
            plan.write(bytes([first[0] ^ 1]))

    site.apply(task)
    assert (task.apply_path, counter.lines) == ("normal", ["reviewed"])
    assert task.apply_path_reason.startswith("Not from the held Terraform: "), "it says why not"
    assert "was changed" in task.apply_path_reason
    assert list((platform.work / "quarantine").glob(f"{task.pk}*")), "it is kept for a look"


def test_what_the_plan_wrote_is_applied_on_both_paths(
    platform: Platform, counter: Counter, provider_mirror: Path
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    for path in ("held", "normal"):
        site = platform.site(_planning_writes(counter))
        task = site.plan()
        if path == "normal":
            shutil.rmtree(site.directory(task))
        site.apply(task)
        assert task.apply_path == path
    assert counter.lines == ["written while planning"] * 2


def _planning_writes(counter: Counter) -> Files:
    return {
        "main.tf": f"""
terraform {{
  required_providers {{
    fault = {{ source = "registry.terraform.io/slipway/fault" }}
  }}
}}

data "fault_file" "written" {{
  path    = "${{path.module}}/written.txt"
  content = "written while planning\\n"
}}

resource "terraform_data" "reads" {{
  provisioner "local-exec" {{
    command = "cat ${{data.fault_file.written.path}} >> {counter.path}"
  }}
}}
"""
    }


def test_a_git_module_with_a_template_is_applied_on_both_paths(
    platform: Platform, counter: Counter, tmp_path: Path
) -> None:
    repository = make_repository(
        tmp_path / "module",
        {
            "main.tf": f"""
resource "terraform_data" "first" {{}}

resource "terraform_data" "second" {{
  # Known only while applying: the template is read then.
  input = templatefile("${{path.module}}/greeting.tftpl", {{ id = terraform_data.first.id }})
  provisioner "local-exec" {{
    command = "echo '${{self.input}}' >> {counter.path}"
  }}
}}
""",
            "greeting.tftpl": 'Hello from Git %{ if id != "" }twice%{ endif }',
        },
    )
    platform.start_agent()
    for number, path in enumerate(("held", "normal"), start=1):
        site = platform.site(
            {"main.tf": f'module "greeting" {{\n  source = "git::file://{repository}"\n}}\n'}
        )
        task = site.plan()
        if path == "normal":
            shutil.rmtree(site.directory(task))
            shutil.rmtree(repository)  # the module comes from the bundle, as it was reviewed
        site.apply(task)
        assert task.apply_path == path
        assert counter.lines == ["Hello from Git twice"] * number


def test_every_change_is_audited(platform: Platform, counter: Counter) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.apply(site.plan())
    changes = Event.objects.filter(task=task, kind__startswith="task.").exclude(to_status="")
    path = changes.order_by("created_at").values_list("from_status", "to_status")
    assert list(path) == [
        ("pending", "planning"),
        ("planning", "apply_pending"),
        ("apply_pending", "confirmed"),
        ("confirmed", "applying"),
        ("applying", "applied"),
    ]
