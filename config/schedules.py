"""What runs periodically. django-q2 looks at its schedules about every 30 seconds."""

from django_q.models import Schedule

MINUTELY, HOURLY = 1, 60

#: Name, function, minutes between two runs.
SCHEDULES = [
    ("Place waiting tasks", "pods_app.jobs.dispatch", MINUTELY),
    ("One pass of the controller", "pods_app.jobs.controller_pass", MINUTELY),
    ("Clean up work directories", "pods_app.jobs.cleanup_work_directories", HOURLY),
    ("Purge what is older than its retention", "tasks_app.jobs.purge", HOURLY),
]


def sync_schedules() -> None:
    """Bring django-q2's schedules in line with SCHEDULES; may be repeated."""
    for name, function, minutes in SCHEDULES:
        Schedule.objects.update_or_create(
            name=name,
            defaults={"func": function, "schedule_type": Schedule.MINUTES, "minutes": minutes,
                      "repeats": -1},
        )
    Schedule.objects.exclude(name__in=[name for name, *_ in SCHEDULES]).filter(
        func__regex=r"^(tasks|pods|agents)_app\."
    ).delete()
