"""Real Terraform against the real state backend, through a proxy that breaks what is asked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pods_app.models import ApplyPermit
from pods_app.state_access import run_token
from tasks_app.actors import Actor
from tasks_app.models import StateLock, StateVersion, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.state import force_unlock_state, read_state
from tasks_app.services.state_position import current_version
from tasks_app.services.tasks import confirm_task
from tests.support.factories import (
    DIGEST,
    PLAN_HASH,
    ask_permit,
    make_admin,
    make_user,
    make_waiting_task,
    make_workspace,
)
from tests.support.programs import wait_until
from tests.support.proxy import Action, FaultProxy
from tests.support.state import token_of

pytestmark = pytest.mark.django_db(transaction=True)

MAIN = """
terraform {
  backend "http" {}
}
variable "text" {
  default = "one"
}
resource "terraform_data" "first" {
  input = var.text
  provisioner "local-exec" {
    command = "echo applied >> counter; while test -e gate; do sleep 0.05; done"
  }
}
"""


@dataclass
class Terraform:
    """A working directory and the environment that a run gets."""

    program: str
    directory: Path
    address: str
    password: str
    more: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.program, *arguments],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "CHECKPOINT_DISABLE": "1",
                "TF_IN_AUTOMATION": "1",
                "TF_INPUT": "0",
                "TF_HTTP_ADDRESS": self.address,
                "TF_HTTP_LOCK_ADDRESS": self.address,
                "TF_HTTP_UNLOCK_ADDRESS": self.address,
                "TF_HTTP_USERNAME": "slipway",
                "TF_HTTP_PASSWORD": self.password,
                "TF_HTTP_RETRY_WAIT_MAX": "1",
                **self.more,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test left running."""
        (self.directory / "gate").unlink(missing_ok=True)
        for process in self.started:
            if process.poll() is None:
                process.kill()
            with process:
                pass

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments, "-no-color")
        output, _ = process.communicate(timeout=90)
        assert process.returncode == code, output
        return output

    def apply(self, *arguments: str, code: int = 0) -> str:
        return self.run("apply", "-auto-approve", *arguments, code=code)

    @property
    def applies(self) -> int:
        counter = self.directory / "counter"
        return len(counter.read_text().splitlines()) if counter.exists() else 0


@pytest.fixture
def proxy(live_server: Any) -> Any:
    with FaultProxy(live_server.thread.port) as proxy:
        yield proxy


@pytest.fixture
def workspace() -> Workspace:
    return make_workspace()


@pytest.fixture
def make_terraform(
    terraform: str, proxy: FaultProxy, workspace: Workspace, tmp_path: Path
) -> Iterator[Callable[..., Terraform]]:
    """Make an initialised working directory; the password is a manager's token."""

    all_made: list[Terraform] = []

    def make(name: str = "one", password: str = "", **more: str) -> Terraform:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "main.tf").write_text(MAIN)
        address = f"{proxy.url}/api/state/v1/{workspace.pk}/"
        password = password or token_of(make_user("manager"))
        made = Terraform(terraform, directory, address, password, more)
        all_made.append(made)
        made.run("init")
        return made

    yield make
    for made in all_made:
        made.end()


def serials() -> list[int]:
    return list(StateVersion.objects.order_by("serial").values_list("serial", flat=True))


def refused(output: str) -> bool:
    """Whether Terraform was told 403."""
    return "403" in output or "invalid auth" in output


def unlocked() -> bool:
    return not StateLock.objects.filter(released_at=None).exists()


def test_a_whole_life(make_terraform, workspace):
    terraform = make_terraform()
    terraform.apply()
    assert serials() == [1]
    assert "No changes" in terraform.run("plan")
    terraform.run("state", "mv", "terraform_data.first", "terraform_data.second")
    pulled = json.loads(terraform.run("state", "pull"))
    assert pulled["resources"][0]["name"] == "second"
    assert pulled["lineage"] == current_version(workspace).lineage
    pulled["serial"] += 5
    (terraform.directory / "pushed.tfstate").write_text(json.dumps(pulled))
    terraform.run("state", "push", "pushed.tfstate")
    assert serials()[-1] >= pulled["serial"]
    # An older state is refused by Terraform, a foreign one too.
    pulled["serial"] = 1
    (terraform.directory / "pushed.tfstate").write_text(json.dumps(pulled))
    terraform.run("state", "push", "pushed.tfstate", code=1)
    terraform.run("destroy", "-auto-approve")
    assert json.loads(read_state(current_version(workspace)))["resources"] == []
    assert unlocked()
    assert serials() == sorted(set(serials()))


def test_two_writers_take_turns(make_terraform, workspace):
    one, two = make_terraform("one"), make_terraform("two")
    (one.directory / "gate").touch()
    first = one.start("apply", "-auto-approve", "-no-color")
    wait_until(lambda: one.applies, "the first applies")
    assert "Error acquiring the state lock" in two.apply("-lock-timeout=0s", code=1)
    second = two.start("apply", "-auto-approve", "-no-color", "-lock-timeout=60s", "-var=text=two")
    (one.directory / "gate").unlink()
    for process in (first, second):
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
    assert serials() == [1, 2]
    assert StateVersion.objects.values("lineage").distinct().count() == 1
    assert unlocked()


@pytest.mark.parametrize("method", ["LOCK", "POST", "UNLOCK"])
def test_a_lost_reply_is_resent_and_counts_once(make_terraform, proxy, method):
    terraform = make_terraform()
    fault = proxy.fault(Action.CUT, method)
    terraform.apply()
    assert fault.hits == 1
    assert proxy.count(method, status=200) == 2
    assert serials() == [1]
    assert StateLock.objects.count() == 1
    assert terraform.applies == 1
    assert unlocked()


def test_a_state_that_cannot_be_posted_is_kept_and_pushed_later(make_terraform, proxy, workspace):
    terraform = make_terraform(TF_HTTP_RETRY_WAIT_MIN="1")
    terraform.apply()
    fault = proxy.fault(Action.ANSWER, "POST", times=3, status=500)
    output = terraform.apply("-var=text=two", code=1)
    assert fault.hits == 3
    assert "errored.tfstate" in output
    assert serials() == [1]
    assert unlocked()
    terraform.run("state", "push", "errored.tfstate")
    assert "No changes" in terraform.run("plan", "-var=text=two")
    assert current_version(workspace).serial > 1


def test_an_outage_during_an_apply_is_ridden_out(make_terraform, proxy):
    terraform = make_terraform(TF_HTTP_RETRY_MAX="60", TF_HTTP_RETRY_WAIT_MIN="1")
    (terraform.directory / "gate").touch()
    process = terraform.start("apply", "-auto-approve", "-no-color")
    wait_until(lambda: terraform.applies, "the apply runs")
    fault = proxy.fault(Action.REFUSE, "POST", times=None)
    (terraform.directory / "gate").unlink()
    wait_until(lambda: fault.hits >= 5, "it tried more often than it does by default")
    fault.end()
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert serials() == [1]
    assert unlocked()


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_fault_on_reading_never_looks_like_no_state(make_terraform, proxy, status):
    terraform = make_terraform(TF_HTTP_RETRY_MAX="0")
    terraform.apply()
    fault = proxy.fault(Action.ANSWER, "GET", times=None, status=status)
    terraform.apply(code=1)
    fault.end()
    assert terraform.applies == 1
    assert serials() == [1]


def test_a_failed_unlock_loses_no_state(make_terraform, proxy, workspace):
    terraform = make_terraform(TF_HTTP_RETRY_MAX="0")
    proxy.fault(Action.ANSWER, "UNLOCK", status=500)
    terraform.apply(code=1)
    assert serials() == [1]
    assert not unlocked()
    terraform.apply("-lock-timeout=0s", code=1)
    force_unlock_state(actor=Actor.person(make_admin()), workspace=workspace)
    terraform.apply()
    assert terraform.applies == 1


def test_a_reader_plans_beside_a_held_lock_and_writes_nothing(make_terraform):
    writer = make_terraform("writer")
    reader = make_terraform("reader", token_of(make_user("approver")))
    (writer.directory / "gate").touch()
    process = writer.start("apply", "-auto-approve", "-no-color")
    wait_until(lambda: writer.applies, "the writer applies")
    assert "1 to add" in reader.run("plan", "-lock=false")
    assert refused(reader.apply("-lock-timeout=60s", code=1))
    reader.apply("-lock=false", code=1)
    (writer.directory / "gate").unlink()
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert serials() == [1]


def test_terraforms_own_force_unlock_says_where_to_do_it(make_terraform):
    terraform = make_terraform()
    (terraform.directory / "gate").touch()
    process = terraform.start("apply", "-auto-approve", "-no-color")
    wait_until(lambda: terraform.applies, "the apply runs")
    lock = StateLock.objects.get(released_at=None)
    terraform.run("force-unlock", "-force", lock.lock_id, code=1)
    assert not unlocked()
    (terraform.directory / "gate").unlink()
    process.communicate(timeout=90)
    assert process.returncode == 0
    assert unlocked()


# --- the second gate -------------------------------------------------------------------------


@pytest.fixture
def confirmed(workspace: Workspace) -> Task:
    task = make_waiting_task(workspace)
    confirm_task(actor=Actor.person(make_admin()), task_id=task.pk, plan_hash=PLAN_HASH)
    return task


def planned(make_terraform: Callable[..., Terraform], task: Task) -> Terraform:
    """The run of a task: planned by reading alone."""
    terraform = make_terraform("run", run_token(task.leases.get(), DIGEST))
    terraform.run("plan", "-lock=false", "-out=plan.out")
    return terraform


def permit(task: Task) -> None:
    ask_permit(task.leases.select_related("slot__pod").get())


def test_a_permitted_run_applies_once(make_terraform, confirmed):
    terraform = planned(make_terraform, confirmed)
    permit(confirmed)
    terraform.run("apply", "-lock-timeout=60s", "plan.out")
    assert serials() == [1]
    assert StateVersion.objects.get().task == confirmed
    terraform.run("apply", "-lock-timeout=0s", "plan.out", code=1)
    assert terraform.applies == 1


def no_permit(task: Task) -> None:
    pass


def expired_permit(task: Task) -> None:
    permit(task)
    ApplyPermit.objects.update(expires_at=ClockTimestamp())


def fenced(task: Task) -> None:
    permit(task)
    task.leases.update(state="ended")


@pytest.mark.parametrize("gate", [no_permit, expired_permit, fenced])
def test_an_apply_released_hours_later_is_refused_at_once(make_terraform, proxy, confirmed, gate):
    terraform = planned(make_terraform, confirmed)
    gate(confirmed)
    output = terraform.run("apply", "-lock-timeout=60s", "plan.out", code=1)
    assert refused(output)
    assert proxy.count("LOCK") == 1
    assert proxy.count("POST") == 0
    assert terraform.applies == 0
    assert not StateVersion.objects.exists()
    assert unlocked()
