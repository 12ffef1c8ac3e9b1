"""Show the agents, and declare lost those that were silent for too long."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from agents_app.health import check_agents
from pods_app.health import Health, doubt_seconds, judge
from pods_app.models import ManagedPod
from pods_app.selectors import slot_counts, with_load
from pods_app.states import PodPhase
from tasks_app.formats import byte_words

#: Exit code of a dry run that found changes.
FOUND_CHANGES = 3


class Command(BaseCommand):
    help = (
        "Show what agents have and how they are, and declare lost what has been silent for too "
        "long."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; exit 3 if it would"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        lost = {pod.pk for pod in check_agents(dry_run=dry_run)}
        rows = [_row(pod, pod.pk in lost) for pod in _pods()]
        if options["json"]:
            document = {
                "dry_run": dry_run,
                "lost": len(lost),
                "unknown_after_seconds": doubt_seconds(),
                "lost_after_seconds": settings.SLIPWAY.agent_lost_seconds,
                "agents": rows,
            }
            self.stdout.write(json.dumps(document))
        else:
            for row in rows:
                self.stdout.write(_line(row, dry_run))
            if not rows:
                self.stdout.write("No agent is registered.")
        if dry_run and lost:
            sys.exit(FOUND_CHANGES)


def _pods() -> list[ManagedPod]:
    pods = ManagedPod.objects.exclude(phase=PodPhase.GONE).select_related("pool")
    return list(with_load(pods).prefetch_related("slots").order_by("pool__name", "pod_name"))


def _row(pod: Any, lost_now: bool) -> dict[str, Any]:
    return {
        "pod": pod.pod_name,
        "pool": pod.pool.name,
        "agent_id": pod.agent_id,
        "health": str(Health.LOST if lost_now else judge(pod, pod.silence)),
        "heartbeat_age_seconds": pod.silence and round(pod.silence.total_seconds(), 1),
        "declared_lost": lost_now,
        "draining": pod.draining or pod.ending,
        "slots": slot_counts(pod.slots.all()),
        "held_applies": pod.held_applies,
        "engines": pod.engines,
        "providers": pod.providers,
        "directories": pod.directories,
        "directory_bytes": pod.directory_bytes,
        "disk_free_bytes": pod.disk_free_bytes,
    }


def _line(row: dict[str, Any], dry_run: bool) -> str:
    age, slots = row["heartbeat_age_seconds"], row["slots"]
    verdict = ""
    if row["declared_lost"]:
        verdict = "would be declared lost" if dry_run else "declared lost"
    engines = " ".join(f"{e['engine']} {e['version']}" for e in row["engines"])
    parts = [
        str(row["health"]),
        "never heard" if age is None else f"last heard {age:g} s ago",
        verdict,
        "draining" if row["draining"] else "",
        f"slots {slots['idle']} idle of {slots['total']}",
        f"{row['held_applies']} held" if row["held_applies"] else "",
        f"directories {row['directories']} ({byte_words(row['directory_bytes'])})",
        engines or "no engine",
    ]
    return f"{row['pool']}/{row['pod']}: {', '.join(filter(None, parts))}"
