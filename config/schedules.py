"""What runs periodically. django-q2 looks at its schedules about every 30 seconds."""

from __future__ import annotations

from django_q.models import Schedule

EVERY_MINUTE, HOURLY = 1, 60

#: Name, function, minutes between two runs. Each function is single-flight itself.
SCHEDULES = (
    ("Place waiting tasks", "pods_app.jobs.dispatch", EVERY_MINUTE),
    ("Warm waiting plans", "pods_app.jobs.warm_up", EVERY_MINUTE),
    ("One pass of the controller", "pods_app.jobs.controller_pass", EVERY_MINUTE),
    ("Reconcile pods", "pods_app.jobs.reconcile_pods", EVERY_MINUTE),
    ("Check agents", "agents_app.jobs.check_agents", EVERY_MINUTE),
    ("Tell operators of freezes", "pods_app.jobs.send_notices", EVERY_MINUTE),
    ("Clean up work directories", "pods_app.jobs.cleanup_work_directories", HOURLY),
    ("Purge what is older than its retention", "tasks_app.jobs.purge", HOURLY),
)


def sync_schedules() -> None:
    """Bring django-q2's schedules in line with SCHEDULES; others of Slipway's are removed."""
    for name, function, minutes in SCHEDULES:
        Schedule.objects.update_or_create(
            name=name,
            defaults={
                "func": function,
                "schedule_type": Schedule.MINUTES,
                "minutes": minutes,
                "repeats": -1,
            },
        )
    names = [name for name, *_ in SCHEDULES]
    Schedule.objects.filter(func__regex=r"^(tasks|pods|agents)_app\.").exclude(
        name__in=names
    ).delete()
