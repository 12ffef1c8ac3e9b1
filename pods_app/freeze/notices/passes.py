"""One pass: tell each fact once, and send what has not arrived, for as long as it is true."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from django.db import IntegrityError, transaction
from django.db.models import Exists, Min, OuterRef, QuerySet

from pods_app.freeze.notices import words
from pods_app.freeze.notices.channels import Channel, NotDelivered, configured
from pods_app.freeze.notices.facts import Fact, Later, find, page
from pods_app.freeze.services import database_now
from pods_app.models import FreezeNotice, NoticeDelivery, NoticeFact
from pods_app.states import NoticeKind
from tasks_app.models.base import ClockTimestamp

log = logging.getLogger(__name__)

#: What happened so long ago is not told any more: a long weekend without a worker.
LOOK_BACK = timedelta(days=3)
#: What happens to one pool or task after the other is told together, once it has ended.
_IN_A_ROW = {NoticeKind.BEGAN, NoticeKind.ENDED, NoticeKind.INTERRUPTED}
_SETTLED = timedelta(seconds=15)
#: No attempt begins later in a pass, in seconds: the longest must fit into the job as well.
_SENDING = 20.0
ATTEMPTS_MAX = 10
_BACK_OFF_MAX = timedelta(hours=1)
_KEPT = timedelta(days=90)


def notice_pass() -> int:
    """Tell what is new and send what is due; returns how many messages arrived."""
    channels = configured()
    if not channels:
        return 0
    now = database_now()
    # The first message to a channel shows that it works, and begins what is told at all.
    greetings = {name: _greeting(name, now) for name in channels}
    for name, greeting in greetings.items():
        tell([greeting], [name], now)
    found = find(_since(greetings.values(), now))
    tell(found, channels, now)
    return send({one.key for one in (*greetings.values(), *found)}, channels, now)


def _greeting(channel: str, now: datetime) -> Fact:
    kind = NoticeKind.CHANNEL
    return Fact(kind, f"{kind}:{channel}", channel, now, url=page("index"))


def _since(greetings: Iterable[Fact], now: datetime) -> datetime:
    """Return the moment before which nothing is told: a new channel does not get old news."""
    greeted = NoticeFact.objects.filter(pk__in=[one.key for one in greetings])
    first = greeted.aggregate(at=Min("notice__created_at"))["at"]
    earliest: datetime = max(first or now, now - LOOK_BACK)
    return earliest


def tell(found: Iterable[Fact | Later], channels: Collection[str], now: datetime) -> int:
    """Make a notice of facts that were not told yet, with a delivery for each channel.

    Returns:
        How many. Two passes at once make each once: a fact's key is unique.
    """
    by_key = {one.key: one for one in found}
    told = set(NoticeFact.objects.filter(pk__in=by_key).values_list("pk", flat=True))
    untold = [one for one in by_key.values() if one.key not in told]
    new = filter(None, (one.fact() if isinstance(one, Later) else one for one in untold))
    facts = sorted(new, key=lambda fact: (fact.kind, fact.topic, fact.at, fact.key))
    made = 0
    for (kind, _), group in groupby(facts, key=lambda fact: (fact.kind, fact.topic)):
        together = list(group)
        if kind not in _IN_A_ROW or together[-1].at <= now - _SETTLED:
            made += _make(together, channels)
    return made


def _make(facts: Sequence[Fact], channels: Collection[str]) -> bool:
    notice = FreezeNotice(
        kind=facts[0].kind,
        about=facts[0].at,
        subject=words.subject(facts),
        text=words.text(facts),
        data=words.data(facts),
    )
    try:
        with transaction.atomic():
            notice.save(force_insert=True)
            keys = sorted(fact.key for fact in facts)  # in one order: two passes never deadlock
            NoticeFact.objects.bulk_create(NoticeFact(key=key, notice=notice) for key in keys)
            NoticeDelivery.objects.bulk_create(
                NoticeDelivery(notice=notice, channel=channel, next_at=ClockTimestamp())
                for channel in channels
            )
    except IntegrityError:
        return False  # somebody else tells one of them at this moment; the next pass sees the rest
    return True


def send(true: Collection[str], channels: dict[str, Channel], looked_at: datetime) -> int:
    """Make the attempts that are due; returns how many messages arrived.

    Args:
        true: keys of the facts that held when this pass looked, after ``looked_at``. An older
            notice of none of them is withdrawn: a freeze that was called off, or is over, is not
            told late. A newer one is of another pass, which has looked since.
    """
    rows = NoticeDelivery.objects.filter(next_at__lte=ClockTimestamp()).select_related("notice")
    begun, sent = time.monotonic(), 0
    for row in rows.order_by("next_at", "id"):
        if time.monotonic() - begun > _SENDING:
            break
        channel = channels.get(row.channel)
        if channel is None:
            _withdraw(row, "The channel is not set any more")
        elif row.notice.created_at < looked_at and not _holds(row.notice, true):
            _withdraw(row, "It was not true any more")
        elif row.attempts >= ATTEMPTS_MAX:
            _give_up(row, row.error or "No attempt came to its end")
        elif _claim(row):
            sent += _attempt(row, channel)
    return sent


def _holds(notice: FreezeNotice, true: Collection[str]) -> bool:
    return notice.facts.filter(pk__in=true).exists()


def _claim(row: NoticeDelivery) -> bool:
    """Count an attempt before it is made; False if another pass makes it."""
    pause = min(timedelta(minutes=2**row.attempts), _BACK_OFF_MAX)
    mine = NoticeDelivery.objects.filter(pk=row.pk, attempts=row.attempts, next_at=row.next_at)
    claimed = mine.update(attempts=row.attempts + 1, next_at=ClockTimestamp() + pause)
    row.attempts += claimed
    return bool(claimed)


def _attempt(row: NoticeDelivery, channel: Channel) -> bool:
    try:
        channel.send(row.notice)
    except Exception as error:  # noqa: BLE001  one channel must not keep others from theirs
        # Its own words, or none: a traceback may quote an address.
        why = str(error) if isinstance(error, NotDelivered) else type(error).__name__
        log.warning("notice %s, %s, attempt %s: %s", row.notice_id, row.channel, row.attempts, why)
        NoticeDelivery.objects.filter(pk=row.pk, sent_at=None).update(error=why[:200])
        if row.attempts >= ATTEMPTS_MAX:
            _give_up(row, why)
        return False
    NoticeDelivery.objects.filter(pk=row.pk).update(
        sent_at=ClockTimestamp(), next_at=None, error=""
    )
    return True


def _give_up(row: NoticeDelivery, why: str) -> None:
    log.error("notice %s, %s, is given up: %s", row.notice_id, row.channel, why)
    _withdraw(row, why)


def _withdraw(row: NoticeDelivery, why: str) -> None:
    """No further attempt is made."""
    NoticeDelivery.objects.filter(pk=row.pk, sent_at=None).update(next_at=None, error=why[:200])


def old_notices() -> QuerySet[FreezeNotice]:
    """Return the notices that are over by age; those of channels say since when they are there."""
    live = NoticeDelivery.objects.filter(notice=OuterRef("pk"), next_at__isnull=False)
    limit = ClockTimestamp() - _KEPT
    return FreezeNotice.objects.filter(~Exists(live), created_at__lt=limit).exclude(
        kind=NoticeKind.CHANNEL
    )
