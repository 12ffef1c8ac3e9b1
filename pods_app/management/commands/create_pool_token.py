import json
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pods_app.models import Pool
from pods_app.registration import create_pool_token
from tasks_app.actors import Actor

EXIT_DRY_RUN_FOUND_CHANGES = 3


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 3650:  # NaN too
        raise ArgumentTypeError(f"{text!r} is not a number of hours above 0 (at most ten years)")
    return hours


class Command(BaseCommand):
    help = "Make a token with which agents register in a pool, and print it once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="Name of the pool")
        parser.add_argument("--name", default="command", help="What it is for")
        parser.add_argument("--hours", type=_hours, help="How long it works; default: for ever")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")
        parser.add_argument("--dry-run", action="store_true", help="Only check the pool.")

    def handle(self, *args: Any, **options: Any) -> None:
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            names = ", ".join(Pool.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no pool {options['pool']!r}; there are: {names}.")
        if options["dry_run"]:
            if options["json"]:
                self.stdout.write(json.dumps({"dry_run": True, "pool": pool.name}))
            else:
                self.stdout.write(f"A token for pool {pool.name} would be made.")
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)
        lifetime = timedelta(hours=options["hours"]) if options["hours"] else None
        row, token = create_pool_token(
            actor=Actor.system("command"), pool=pool, name=options["name"], lifetime=lifetime
        )
        if options["json"]:
            self.stdout.write(json.dumps({"id": str(row.pk), "pool": pool.name, "token": token}))
        else:
            self.stdout.write(token)
