import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from pods_app.work_directories import cleanup

EXIT_DRY_RUN_FOUND_CHANGES = 3


class Command(BaseCommand):
    help = (
        "Delete the work directories of finished tasks and of plans kept warm long enough. "
        "Agents delete what this decides; it lists what it keeps, and why."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Decide only.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")
        parser.add_argument(
            "--now",
            action="store_true",
            help="Do not wait for the configured times; directories in use are kept.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        decisions = cleanup(dry_run=options["dry_run"], everything_idle=options["now"])
        doomed = [decision for decision in decisions if decision.delete]
        if options["json"]:
            self.stdout.write(json.dumps([decision.as_dict() for decision in decisions], indent=2))
        else:
            for d in decisions:
                verb = "delete" if d.delete else d.state
                self.stdout.write(
                    f"{verb:11}  {d.bytes / 1e6:8.1f} MB  {d.age_seconds / 3600:6.1f} h  "
                    f"{d.task} on {d.pod}: {d.reason}"
                )
            total = sum(d.bytes for d in doomed) / 1e6
            self.stdout.write(f"{len(doomed)} of {len(decisions)} to delete, {total:.1f} MB")
        if options["dry_run"] and doomed:
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)
