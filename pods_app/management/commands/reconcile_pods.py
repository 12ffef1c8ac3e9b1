import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pods_app.models import Pool
from pods_app.reconcile import reconcile_all, reconcile_pods
from tasks_app.exceptions import SlipwayError

#: Somebody else's pod, or a pause after failures: told, but nothing to do.
TOLD = {"leave", "wait"}
EXIT_DRY_RUN_FOUND_CHANGES = 3


class Command(BaseCommand):
    help = "Bring the pods of one pool, or of all, in line with what the pool should have."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pool", help="Name of the pool; default: all")
        parser.add_argument("--dry-run", action="store_true", help="Only list the differences.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        try:
            if options["pool"]:
                changes = reconcile_pods(self._pool(options["pool"]), dry_run=dry_run)
            else:
                changes = reconcile_all(dry_run=dry_run)
        except SlipwayError as error:
            raise CommandError(error.detail) from None
        if options["json"]:
            self.stdout.write(json.dumps([change.as_dict() for change in changes], indent=2))
        else:
            for change in changes:
                self.stdout.write(f"{change.action} {change.pod}: {change.reason}")
            self.stdout.write(f"{len(changes)} difference(s)")
        if dry_run and any(change.action not in TOLD for change in changes):
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)

    def _pool(self, name: str) -> Pool:
        pool = Pool.objects.filter(name=name).first()
        if pool is None:
            names = ", ".join(Pool.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no pool {name!r}; there are: {names}.")
        return pool
