"""Replies that are lost after the server has committed: everything is safe to repeat."""

from __future__ import annotations

from tasks_app.models import StateLock
from tests.support.configurations import Counter, counting
from tests.support.platform import Platform
from tests.support.proxy import Action
from tests.support.sites import events, log

#: Every request by which an agent changes something, and a pattern of its path.
_AGENT_REQUESTS = {
    "register": ("POST", "/register$"),
    "work": ("POST", "/work$"),
    "heartbeat": ("POST", "/heartbeat$"),
    "plan log": ("PUT", "/log.*phase=plan"),
    "plan bundle": ("PUT", "/artifacts/plan_bundle"),
    "plan text": ("PUT", "/artifacts/plan_text"),
    "progress": ("POST", "/progress"),
    "finish": ("POST", "/finish"),
    "warm-up": ("POST", "/warmup"),
    "permit": ("POST", "/permit"),
    "apply log": ("PUT", "/log.*phase=apply"),
}


def test_an_agent_repeats_whatever_lost_its_reply(platform: Platform, counter: Counter) -> None:
    cuts = {
        name: platform.proxy.fault(Action.CUT, method, path)
        for name, (method, path) in _AGENT_REQUESTS.items()
    }
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    # The first end was that of the plan; now that of the apply.
    cuts["end of the apply"] = platform.proxy.fault(Action.CUT, "POST", "/finish")
    site.apply(task)

    assert [name for name, cut in cuts.items() if not cut.hits] == []
    assert counter.lines == ["counted"]
    assert events(task).count("task.applying") == 1
    assert log(task, "plan").count("Plan: 1 to add") == 1, "repeated log bytes count once"
    assert log(task, "apply").count("Apply complete") == 1


def test_terraform_repeats_whatever_lost_its_reply(platform: Platform, counter: Counter) -> None:
    cuts = [platform.proxy.fault(Action.CUT, method) for method in ("LOCK", "UNLOCK")]
    cuts.append(platform.proxy.fault(Action.CUT, "POST", "^/api/state/"))
    platform.start_agent()
    site = platform.site(counting(counter))
    site.apply(site.plan())

    assert [str(cut) for cut in cuts if not cut.hits] == []
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
    assert not site.locked
    assert StateLock.objects.filter(workspace=site.workspace).count() == 1
    serials = site.workspace.state_versions.values_list("serial", flat=True)
    assert len(serials) == len(set(serials)), "one history"
