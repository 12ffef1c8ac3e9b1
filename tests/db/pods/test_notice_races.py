"""Two passes at the same time: every fact is told once, every message sent once."""

from collections import Counter
from datetime import timedelta
from functools import partial

import pytest

from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.notices import passes
from pods_app.freeze.notices.passes import notice_pass
from pods_app.models import FreezeNotice, FreezeWindow, NoticeDelivery, Pool
from tests.support.factories import make_pool
from tests.support.freezes import window_row
from tests.support.notices import SECRET, receiver
from tests.support.racing import no_surprise, race, soon

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 20


@pytest.fixture
def hook(settings, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(passes, "_SETTLED", -timedelta(minutes=1))
    with receiver() as found:
        settings.NOTICE_WEBHOOK_URLS = [found.url]
        settings.NOTICE_WEBHOOK_SECRETS = [SECRET]
        yield found


def test_passes_at_once_tell_and_send_once(hook):
    """While pools freeze and open again; whichever pass sees how much of it first."""
    names = [f"pool-{number}" for number in range(3)]
    for name in names:
        make_pool(name=name)
    notice_pass()
    for number in range(ROUNDS):
        hook.got.clear()
        FreezeWindow.objects.all().delete()
        frozen = number % 2 == 0
        if frozen:
            window_row(begins=timedelta(hours=-1))
        window_row(begins=timedelta(minutes=10), ends=timedelta(minutes=70))
        edges = [soon(partial(follow_schedules, [pool])) for pool in Pool.objects.all()]
        no_surprise(race([*edges, notice_pass, soon(notice_pass), notice_pass, soon(notice_pass)]))
        notice_pass()
        told = Counter((one["type"], name) for one in hook.bodies for name in one["data"]["pools"])
        kinds = ["freeze.began"] if frozen else ["freeze.ended", "freeze.in_15_minutes"]
        assert told == Counter((kind, name) for kind in kinds for name in names)
        ids = [headers["webhook-id"] for headers, _ in hook.got]
        assert len(ids) == len(set(ids))
    assert not NoticeDelivery.objects.exclude(attempts=1, next_at=None).exists()
    assert not FreezeNotice.objects.filter(facts=None).exists()
