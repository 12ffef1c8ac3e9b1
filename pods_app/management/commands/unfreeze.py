import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pods_app.freeze import by_hand
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.state import moment_words
from pods_app.freeze.status import standing
from pods_app.management.pools import EXIT_DRY_RUN_FOUND_CHANGES, pool_named
from pods_app.models import Pool
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError

COMMAND = Actor.system("command")


class Command(BaseCommand):
    help = (
        "End the freeze of a pool: the windows in force for it alone end early. With "
        "--override-minutes the windows stay, and the pool works in spite of them for a while; "
        "with --end-override they count again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="Name of the pool")
        parser.add_argument("--reason", required=True, help="For the others.")
        overrides = parser.add_mutually_exclusive_group()
        overrides.add_argument(
            "--override-minutes", type=int, help=f"At most {by_hand.OVERRIDE_MINUTES_MAX}"
        )
        overrides.add_argument(
            "--end-override", action="store_true", help="Take back what is granted to the pool."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what it would do.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        pool, reason, dry_run = pool_named(options["pool"]), options["reason"], options["dry_run"]
        minutes = options["override_minutes"]
        document: dict[str, Any] = {
            "dry_run": dry_run,
            "pool": pool.name,
            "windows": [],
            "override_minutes": minutes,
            "overrides_ended": 0,
        }
        try:
            if minutes is not None:
                would = _override(pool, reason, minutes, dry_run)
            elif options["end_override"]:
                would, document["overrides_ended"] = _end_overrides(pool, reason, dry_run)
            else:
                would, document["windows"] = _end_windows(pool, reason, dry_run)
        except SlipwayError as refusal:
            raise CommandError(refusal.detail) from None
        if dry_run:
            text = f"It would {would}."
        else:
            follow_schedules([pool])
            pool.refresh_from_db()
            now = standing(pool)
            document |= {"state": now.freeze.state, "reason": now.freeze.reason}
            text = f"{pool.name}: {now.freeze.reason}."
        self.stdout.write(json.dumps(document) if options["json"] else text)
        if dry_run:
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)


def _override(pool: Pool, reason: str, minutes: int, dry_run: bool) -> str:
    expires_at = by_hand.in_minutes(minutes)
    if not dry_run:
        by_hand.grant_override(actor=COMMAND, pool=pool, reason=reason, expires_at=expires_at)
    return f"override the freezes of {pool.name} until {moment_words(expires_at, 'UTC')}"


def _end_overrides(pool: Pool, reason: str, dry_run: bool) -> tuple[str, int]:
    live = by_hand.live_overrides(pool)
    if not live:
        raise CommandError(f"No override is in force for {pool.name}.")
    for row in live if not dry_run else []:
        by_hand.end_override(actor=COMMAND, override=row, reason=reason)
    return f"end {len(live)} override{'s' if len(live) > 1 else ''} of {pool.name}", len(live)


def _end_windows(pool: Pool, reason: str, dry_run: bool) -> tuple[str, list[str]]:
    names = [row.name for row in by_hand.ends_with(pool)]
    if not dry_run:
        by_hand.unfreeze(actor=COMMAND, pool=pool, reason=reason)
    return f"end {', '.join(names)}", names
