import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tasks_app.services.reencryption import Report, reencrypt

EXIT_LEFT = 1
EXIT_DRY_RUN_FOUND_CHANGES = 3


class Command(BaseCommand):
    help = (
        "After a key rotation: encrypt every stored row with the first key of "
        "SLIPWAY_ENCRYPTION_KEYS, and say which older keys no row needs any more. It can run "
        "beside everything else, and goes on where it stopped when it is called again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only count rows by key.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = reencrypt(dry_run=options["dry_run"], progress=self._progress)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), indent=2))
        else:
            self._tell(report)
        if report.left:
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES if report.dry_run else EXIT_LEFT)

    def _progress(self, table: str, rows: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{table}: {rows}", ending="")

    def _tell(self, report: Report) -> None:
        if self.stderr.isatty():
            self.stderr.write("")
        for table in report.tables:
            keys = "  ".join(f"{key}: {rows}" for key, rows in table.keys.items())
            self.stdout.write(f"{table.reencrypted:8}  {table.table:32}  {keys}")
            if table.unreadable:
                self.stdout.write(
                    f"{table.unreadable:8}  rows cannot be read and stay as they are: "
                    f"{', '.join(table.examples)} …"
                )
        for key, rows in report.keys.items():
            if key != report.primary and rows:
                self.stdout.write(f"Keep “{key}”: {rows} rows name it.")
        for key in report.removable:
            self.stdout.write(f"No row names “{key}” any more.")
        if report.removable and report.runs:
            self.stdout.write(
                f"{report.runs} tasks are under way; a state token of theirs may be signed with "
                "an older key. Remove it when those that began before the rotation have ended."
            )
