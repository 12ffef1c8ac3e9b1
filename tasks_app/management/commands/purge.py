import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tasks_app.services.retention import purge


class Command(BaseCommand):
    help = "Delete plans, logs, state contents and queue rows older than their retention."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        counts = purge(dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            for name, number in counts.items():
                self.stdout.write(f"{number:8}  {name}")
        if options["dry_run"] and any(counts.values()):
            raise SystemExit(3)
