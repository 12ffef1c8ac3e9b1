"""What django-q2 runs on schedule: short, idempotent, single-flight."""

from tasks_app.services import retention
from tasks_app.single_flight import single_flight


def purge() -> dict[str, int]:
    """Apply the retention classes; returns how many rows of each went."""
    with single_flight("job: purge", 600) as mine:
        return retention.purge() if mine else {}
