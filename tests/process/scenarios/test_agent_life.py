"""What an agent gives to Terraform, and how it ends."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from pods_app.models import ManagedPod
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Platform
from tests.support.programs import wait_until

#: All that Terraform's environment may hold besides the task's own variables.
_ALLOWED = re.compile(
    r"PATH|HOME|TMPDIR|LANG|TF_IN_AUTOMATION|TF_INPUT|TF_CLI_CONFIG_FILE|CHECKPOINT_DISABLE|TF_DISABLE_PLUGIN_TLS"
    r"|TF_HTTP_(RETRY_MAX|RETRY_WAIT_MIN|RETRY_WAIT_MAX|ADDRESS|LOCK_ADDRESS|UNLOCK_ADDRESS"
    r"|USERNAME|PASSWORD)|GIT_TERMINAL_PROMPT|GIT_CONFIG_NOSYSTEM|GIT_SSH_COMMAND"
    # Set by Terraform itself, by its local-exec and by the shell that prints them.
    r"|TF_PLUGIN_MAGIC_COOKIE|PWD|OLDPWD|SHLVL|_|TF_DATA_DIR|TF_CLI_ARGS"
)


def test_terraforms_environment_holds_only_what_the_task_gives_it(
    platform: Platform, tmp_path: Path
) -> None:
    dump = tmp_path / "environment"
    platform.start_agent(
        AWS_SECRET_ACCESS_KEY="of-the-agent",
        TF_CLI_ARGS_apply="-lock=false",
        DATABASE_URL="postgres://nowhere",
        LD_LIBRARY_PATH="/nowhere",
    )
    site = platform.site(
        {
            "main.tf": f"""
variable "given" {{}}
resource "terraform_data" "dump" {{
  provisioner "local-exec" {{
    command = "env > {dump}"
  }}
}}
"""
        }
    )
    site.set("given", "by the task")
    site.set("GIVEN", "to the environment", category="environment")
    site.apply(site.plan())

    found = dict(line.split("=", 1) for line in dump.read_text().splitlines() if "=" in line)
    assert found.pop("TF_VAR_given") == "by the task"
    assert found.pop("GIVEN") == "to the environment"
    assert [name for name in found if not _ALLOWED.fullmatch(name)] == []
    assert not Path(found["HOME"]).exists(), "the private home is gone"


def test_sigterm_drains_an_agent_after_its_apply(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    agent.program.signal(signal.SIGTERM)
    wait_until(ManagedPod.objects.filter(ending=True).exists, "the server knows that it drains")
    late = platform.site(counting(counter, name="late")).start()
    assert late.status == "pending", "a draining agent takes no new work"
    assert agent.program.alive

    gate.open()
    site.wait(task, "applied")
    assert agent.program.wait() == 0
    assert counter.lines == ["counted"]
    assert not platform.terraforms()


def test_three_tasks_run_at_once_and_a_fourth_waits(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    sites = [platform.site(counting(counter, gate, name=f"site{n}")) for n in range(3)]
    tasks = [site.start() for site in sites]
    for site, task in zip(sites, tasks, strict=True):
        site.confirmed(site.wait(task, "apply_pending"))
    counter.wait(3)
    fourth = platform.site(counting(counter, name="fourth"))
    waiting = fourth.start()
    assert "free slot" in waiting.waiting_reason
    gate.open()
    for site, task in zip(sites, tasks, strict=True):
        site.wait(task, "applied")
    fourth.apply(fourth.wait(waiting, "apply_pending"))
    assert sorted(counter.lines) == ["fourth", "site0", "site1", "site2"]
