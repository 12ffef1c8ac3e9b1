from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings as project

from pods_app.health import Health, judge
from pods_app.models import ManagedPod


@pytest.mark.parametrize(
    ("phase", "silence", "health"),
    [
        ("online", None, "unknown"),
        ("online", -5, "online"),
        ("online", 0, "online"),
        ("online", 30, "online"),
        ("online", 31, "unknown"),
        ("online", 9000, "unknown"),  # silent for long, but nobody declared it lost
        ("starting", None, "unknown"),
        ("starting", 1, "unknown"),
        ("lost", 1, "lost"),
        ("gone", 1, "lost"),
    ],
)
def test_what_was_declared_and_the_age_of_its_heartbeat_say_how_an_agent_is(
    settings, phase, silence, health
):
    settings.SLIPWAY = replace(project.SLIPWAY, heartbeat_seconds=10.0)
    seconds = None if silence is None else timedelta(seconds=silence)
    assert judge(ManagedPod(phase=phase), seconds) == Health(health)
