"""The network between agent and server fails at every moment of a task's life, in every way.

Each life meets two failures, one before its plan waits for a person and one after, and comes to
its honest end all the same: applied once, with nothing lost of its logs and its state.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pods_app.leases import unended
from pods_app.models import ApplyPermit
from pods_app.warmups import warm_pass
from tasks_app.models import StateLock, Task
from tests.process.scenarios.conftest import PlanBriefly
from tests.support.configurations import Counter, counting
from tests.support.invariants import check_all
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action, Fault
from tests.support.sites import Site, events, log, wait_for_expiry

#: Method and path of a request by which a task goes on; these until its apply is held …
_BEFORE = {
    "register": ("POST", "/register$"),
    "queue": ("POST", "/work$"),
    "configuration": ("GET", "/configuration"),
    "plan": ("GET", "^/api/state/"),
    "log of the plan": ("PUT", "/log.*phase=plan"),
    "upload of the plan": ("PUT", "/artifacts/plan_bundle"),
    "end of the plan": ("POST", "/finish"),
    "restore": ("GET", "/artifacts/plan_bundle"),
    "report of the hold": ("POST", "/warmup"),
}
#: … and these from then on.
_AFTER = {
    "heartbeat": ("POST", "/heartbeat$"),
    "news of the confirmation": ("POST", "/work$"),
    "permit": ("POST", "/permit"),
    "lock": ("LOCK", "^/api/state/"),
    "state": ("POST", "^/api/state/"),
    "unlock": ("UNLOCK", "^/api/state/"),
    "log of the apply": ("PUT", "/log.*phase=apply"),
    "end of the apply": ("POST", "/finish"),
    "end of the lease": ("POST", "/ended"),
}
#: What the agent asks again and again: a fault hits it before anything else happens.
_ALWAYS = {"/work$", "/heartbeat$"}
#: What becomes of the request. One that is refused is the first of an outage of everything.
_WAYS = {
    "cut off": Action.REFUSE,
    "its reply lost": Action.CUT,
    "twice": Action.TWICE,
    "after the end": Action.LATE,
}


@pytest.mark.parametrize("way", _WAYS)
def test_every_request_may_be(
    start_platform: StartPlatform, subtests: pytest.Subtests, tmp_path: Path, way: str
) -> None:
    platform = start_platform(poll_seconds="0.5")
    agent = platform.start_agent()
    for before, after in zip(_BEFORE, _AFTER, strict=True):
        with subtests.test(f"{before}, {after}"):
            counter = Counter(tmp_path / before.replace(" ", "-"))
            life = _Life(platform, counter, _WAYS[way])
            life.queue(before)
            if before == "register":
                agent.restart()
            life.plan(before)
            life.apply(after)
            life.check()


def test_a_permit_whose_reply_is_lost_until_it_has_expired_applies_nothing(
    plan_briefly: PlanBriefly, counter: Counter
) -> None:
    """Asked again with the same key, the server says how little is left of it."""
    _, site, task = plan_briefly()
    proxy = site.platform.proxy
    lost = proxy.fault(Action.CUT, "POST", "/permit", times=None)
    site.confirmed(task)
    wait_for_expiry(task)
    lost.end()
    site.wait(task, "failed")
    assert "othing was applied" in task.error
    assert (counter.lines, site.resources, site.locked) == ([], [], False)
    assert ApplyPermit.objects.filter(task=task).count() == 1
    assert proxy.count("LOCK") == 0 and set(lost.statuses) == {200}


class _Life:
    """A task from its queue to its end."""

    def __init__(self, platform: Platform, counter: Counter, action: Action) -> None:
        self.proxy, self.counter, self.action = platform.proxy, counter, action
        self.site: Site = platform.site(counting(counter))
        self.task: Task
        self.faults: list[Fault] = []

    def queue(self, before: str) -> None:
        if before != "restore":
            self._break(_BEFORE[before])

    def plan(self, before: str) -> None:
        site = self.site
        self.task = site.start()
        if before != "restore":
            self._heal(_BEFORE[before])
        site.ready(site.wait(self.task, "apply_pending"))
        if before == "restore":
            self._restore()
        assert self.counter.lines == []

    def _restore(self) -> None:
        """Lose the directory, and have it warmed again."""
        self.site.lose_directory(self.task)
        self._break(_BEFORE["restore"])
        self.site.warm_without_pause(self.task)
        wait_until(lambda: warm_pass() or self.faults[-1].hits, "it is warmed again")
        self._heal(_BEFORE["restore"])
        restored = unended().filter(task=self.task, held=True, restored=True)
        wait_until(restored.exists, "it is held in a restored directory")

    def apply(self, after: str) -> None:
        self._break(_AFTER[after])
        self.site.confirmed(self.task)
        self._heal(_AFTER[after])
        self.site.wait(self.task, "applied")
        wait_until(lambda: not unended().filter(task=self.task).exists(), "its lease is over")
        if self.action is not Action.LATE:
            self.faults[-1].wait()

    # --- the network ----------------------------------------------------------------------

    def _break(self, request: tuple[str, str]) -> None:
        times = None if self.action is Action.REFUSE else 1
        fault = self.proxy.fault(self.action, *request, times=times)
        self.faults.append(fault)
        if request[1] in _ALWAYS:
            wait_until(lambda: fault.hits, "it was asked")

    def _heal(self, request: tuple[str, str]) -> None:
        """Extend a refusal to everything, until the network was missed."""
        if self.action is not Action.REFUSE:
            return
        fault = self.faults[-1]
        fault.wait()
        with self.proxy.down():
            before = len(self.proxy.unheard)
            fault.end()

            def missed() -> bool:
                return any(
                    re.fullmatch(request[0], method) and re.search(request[1], path)
                    for method, path in self.proxy.unheard[before:]
                )

            wait_until(missed, "the network is missed")

    # --- the end --------------------------------------------------------------------------

    def check(self) -> None:
        self._check()
        if self.action is Action.LATE:
            for fault in self.faults:
                fault.release()
                fault.wait()
            self.task.refresh_from_db()
            self._check()

    def _check(self) -> None:
        site, task = self.site, self.task
        told = [(str(fault), fault.statuses) for fault in self.faults]
        assert (task.status, task.apply_path) == ("applied", "held"), task.apply_path_reason
        assert self.counter.lines == ["counted"], told
        assert ApplyPermit.objects.filter(task=task).count() == 1
        assert events(task).count("task.applying") == 1
        assert site.resources == ["terraform_data.counted"] and not site.locked, told
        assert StateLock.objects.filter(workspace=site.workspace).count() == 1, told
        assert log(task, "plan").count("Plan: 1 to add") == 1
        assert log(task, "apply").count("Apply complete") == 1
        check_all()
