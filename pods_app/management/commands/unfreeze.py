import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pods_app.freeze.by_hand import OVERRIDE_MINUTES_MAX, ends_with, grant_override, unfreeze
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.status import standing
from pods_app.management.pools import EXIT_DRY_RUN_FOUND_CHANGES, pool_named
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError

COMMAND = Actor.system("command")


class Command(BaseCommand):
    help = (
        "End the freeze of a pool: the windows in force for it alone end early. With "
        "--override-minutes the windows stay, and the pool works in spite of them for a while."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="Name of the pool")
        parser.add_argument("--reason", required=True, help="For the others.")
        parser.add_argument("--override-minutes", type=int, help=f"At most {OVERRIDE_MINUTES_MAX}")
        parser.add_argument("--dry-run", action="store_true", help="Only say what it would end.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        pool = pool_named(options["pool"])
        minutes = options["override_minutes"]
        try:
            windows = [] if minutes else [row.name for row in ends_with(pool)]
            if not options["dry_run"] and minutes:
                grant_override(actor=COMMAND, pool=pool, reason=options["reason"], minutes=minutes)
            elif not options["dry_run"]:
                unfreeze(actor=COMMAND, pool=pool, reason=options["reason"])
        except SlipwayError as refusal:
            raise CommandError(refusal.detail) from None
        document: dict[str, Any] = {
            "dry_run": options["dry_run"],
            "pool": pool.name,
            "windows": windows,
            "override_minutes": minutes,
        }
        if options["dry_run"]:
            what = f"an override of {minutes} minutes" if minutes else ", ".join(windows)
            text = f"It would use {what}." if minutes else f"It would end {what or 'nothing'}."
        else:
            follow_schedules([pool])
            pool.refresh_from_db()
            now = standing(pool)
            document |= {"state": now.freeze.state, "reason": now.freeze.reason}
            text = f"{pool.name}: {now.freeze.reason}."
        self.stdout.write(json.dumps(document) if options["json"] else text)
        if options["dry_run"] and (windows or minutes):
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)
