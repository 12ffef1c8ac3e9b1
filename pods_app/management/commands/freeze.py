import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from pods_app.freeze.by_hand import freeze_now
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.status import impact, standing
from pods_app.management.pools import EXIT_DRY_RUN_FOUND_CHANGES, pool_named
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError


class Command(BaseCommand):
    help = (
        "Freeze a pool from now on: nothing starts, its pods are deleted, running applies are "
        "interrupted. Windows that come again are made in the admin or the API."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="Name of the pool")
        parser.add_argument("--reason", required=True, help="For the others.")
        parser.add_argument("--ticket", default="", help="Where it was agreed upon: CHG-4711.")
        parser.add_argument(
            "--until", help="For example 2030-01-31T06:00+01:00; default: until `unfreeze`"
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what it would hit.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        pool = pool_named(options["pool"])
        until = _moment(options["until"])
        hit = impact([pool])
        document: dict[str, Any] = {
            "dry_run": options["dry_run"],
            "pool": pool.name,
            "ticket": options["ticket"],
            "until": until and until.isoformat(),
            "pods": hit.pods,
            "planning": hit.planning,
            "applying": hit.applying,
            "confirmed": hit.confirmed,
            "waiting": hit.waiting,
        }
        text = hit.sentence
        if not options["dry_run"]:
            try:
                freeze_now(
                    actor=Actor.system("command"),
                    pool=pool,
                    reason=options["reason"],
                    ticket=options["ticket"],
                    until=until,
                )
            except SlipwayError as refusal:
                raise CommandError(refusal.detail) from None
            follow_schedules([pool])
            pool.refresh_from_db()
            now = standing(pool)
            document |= {
                "state": now.freeze.state,
                "reason": now.freeze.reason,
                "unconfirmed": now.unconfirmed,
            }
            text = f"{pool.name}: {now.freeze.reason}."
            if now.unconfirmed:
                text += f" Not confirmed stopped yet: {now.unconfirmed}."
        self.stdout.write(json.dumps(document) if options["json"] else text)
        if options["dry_run"]:
            raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"{text!r} is no time such as 2030-01-31T06:00+01:00.")
    if timezone.is_naive(moment):
        raise CommandError(f"{text!r} names no zone; add +00:00 or another offset.")
    if moment <= timezone.now():
        raise CommandError(f"{text!r} is over already; use a later time.")
    return moment
