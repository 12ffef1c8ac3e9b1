"""The controller wakes at every event, not only at the first."""

import pytest

from pods_app import controller
from pods_app.notify import CONTROLLER_CHANNEL, listener, notify_controller


@pytest.mark.timeout(60)
@pytest.mark.django_db(transaction=True)
def test_events_are_heard_again_and_again():
    with listener(CONTROLLER_CHANNEL, "test") as events:
        for _ in range(2):
            notify_controller()
            controller._wait(events)
            assert not list(events.notifies(timeout=0))
