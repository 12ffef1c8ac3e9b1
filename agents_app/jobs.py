"""What django-q2 runs on schedule: short, idempotent, single-flight."""

from agents_app import health
from tasks_app.single_flight import single_flight


def check_agents() -> int:
    """Declare silent agents lost; returns how many."""
    with single_flight("job: check agents", 50) as mine:
        return len(health.check_agents()) if mine else 0
