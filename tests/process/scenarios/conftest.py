"""How several scenarios begin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks_app.models import Task
from tests.support.configurations import Counter, counting
from tests.support.platform import Agent, StartPlatform
from tests.support.sites import Site

#: Starts an agent, with these arguments, and plans until the apply is held.
PlanBriefly = Callable[..., tuple[Agent, Site, Task]]


@pytest.fixture
def plan_briefly(start_platform: StartPlatform, counter: Counter) -> PlanBriefly:
    """On a platform whose permits for held applies are valid for one second."""

    def plan(**agent: str) -> tuple[Agent, Site, Task]:
        platform = start_platform(permit_seconds_held="1")
        started = platform.start_agent(**agent)
        site = platform.site(counting(counter))
        return started, site, site.plan()

    return plan
