from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings

from agents_app.health import Health, status


@pytest.mark.parametrize(
    ("age", "health"),
    [
        (None, "unknown"),
        (-5, "online"),
        (0, "online"),
        (30, "online"),
        (31, "unknown"),
        (100, "unknown"),
        (101, "lost"),
    ],
)
def test_the_age_of_a_heartbeat_says_how_an_agent_is(age, health):
    slipway = replace(settings.SLIPWAY, heartbeat_seconds=10.0, agent_lost_seconds=100.0)
    assert status(age if age is None else timedelta(seconds=age), slipway) == Health(health)
