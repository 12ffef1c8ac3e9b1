import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from pods_app.incarnation import begin_incarnation, installation
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.states import Status

EXIT_DRY_RUN_FOUND_CHANGES = 3


class Command(BaseCommand):
    help = (
        "After a restore of the database: void waiting plans, mark permitted applies as unknown, "
        "and let agents begin anew. Part of the restore procedure."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only count what it would do.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            counts = {
                word: Task.objects.filter(status=status).count()
                for word, status in (
                    ("discarded", Status.APPLY_PENDING),
                    ("failed", Status.CONFIRMED),
                    ("unknown", Status.APPLYING),
                    ("back", Status.PLANNING),
                )
            }
        else:
            counts = begin_incarnation(actor=Actor.system("command"))
        document = {
            "dry_run": options["dry_run"],
            **counts,
            "incarnation": str(installation().incarnation),
        }
        if options["json"]:
            self.stdout.write(json.dumps(document))
        else:
            self.stdout.write(
                f"Waiting plans voided: {counts['discarded']}; confirmed applies failed: "
                f"{counts['failed']}; applies now unknown: {counts['unknown']}; plans queued "
                f"again: {counts['back']}."
            )
        if options["dry_run"]:
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)
