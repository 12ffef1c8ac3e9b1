"""Declare agents lost that were silent for too long."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import F
from django.db.models.functions import Now

from agents_app.health import Health, check_agents, status
from pods_app.models import ManagedPod
from pods_app.states import PodPhase

#: Exit code of a dry run that found changes.
FOUND_CHANGES = 3


class Command(BaseCommand):
    help = "Show the agents' health and declare lost what has been silent for too long."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; exit 3 if it would"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        lost = {pod.pk for pod in check_agents(dry_run=dry_run)}
        rows = [self._row(pod, pod.pk in lost) for pod in self._pods()]
        if options["json"]:
            self.stdout.write(json.dumps({"dry_run": dry_run, "lost": len(lost), "agents": rows}))
        else:
            for row in rows:
                self.stdout.write(self._line(row, dry_run))
            if not rows:
                self.stdout.write("No agent is registered.")
        if dry_run and lost:
            sys.exit(FOUND_CHANGES)

    def _pods(self) -> list[ManagedPod]:
        return list(
            ManagedPod.objects.exclude(phase=PodPhase.GONE)
            .annotate(age=Now() - F("last_heartbeat"))
            .select_related("pool")
            .order_by("pool__name", "pod_name")
        )

    def _row(self, pod: Any, lost_now: bool) -> dict[str, Any]:
        lost = lost_now or pod.phase == PodPhase.LOST
        return {
            "pod": pod.pod_name,
            "pool": pod.pool.name,
            "agent_id": pod.agent_id,
            "health": Health.LOST if lost else status(pod.age, settings.SLIPWAY),
            "heartbeat_age_seconds": pod.age and round(pod.age.total_seconds(), 1),
            "declared_lost": lost_now,
        }

    def _line(self, row: dict[str, Any], dry_run: bool) -> str:
        age = row["heartbeat_age_seconds"]
        heard = "never heard" if age is None else f"last heard {age:g} s ago"
        verdict = ""
        if row["declared_lost"]:
            verdict = ", would be declared lost" if dry_run else ", declared lost"
        return f"{row['pool']}/{row['pod']}: {row['health']}, {heard}{verdict}"
