"""The list of notices: what was told, how far it is, and nothing of addresses."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from pods_app.freeze.notices import channels
from pods_app.freeze.notices.passes import ATTEMPTS_MAX, notice_pass
from pods_app.models import FreezeNotice, NoticeDelivery
from tests.support.factories import make_pool
from tests.support.freezes import now, window_row
from tests.support.notices import SECRET
from tests.support.showcase import Showcase

LIST = "/admin/pods_app/freezenotice/"
ADDRESS = "http://127.0.0.1:1/very-secret-token"


@pytest.fixture
def notice(showcase: Showcase, settings: Any) -> FreezeNotice:
    """A look-ahead that went by e-mail, and that a webhook has not taken yet."""
    settings.NOTICE_EMAILS = ["ops@example.org"]
    settings.NOTICE_WEBHOOK_URLS = [ADDRESS]
    settings.NOTICE_WEBHOOK_SECRETS = [SECRET]
    window_row(make_pool(name="quay"), begins=timedelta(minutes=10), ends=timedelta(hours=2))
    assert notice_pass() == 2
    return FreezeNotice.objects.exclude(kind="channel.added").get()


def page(client: Any, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_list_and_the_page_say_how_far_each_channel_is(
    showcase: Showcase, browse: Any, notice: FreezeNotice
) -> None:
    client = browse(showcase.admin)
    address = reverse("admin:pods_app_freezenotice_change", args=[notice.pk])
    listed, shown = page(client, LIST), page(client, address)
    assert "quay" in listed and "15 minutes ahead" in listed and "E-mail, Webhook" in listed
    assert "Tries again" in listed and "It was not reached (ConnectError)" in listed
    assert "Sent" in shown and "Tries again" in shown and "the books are closed" in shown
    for text in (listed, shown):
        assert "very-secret-token" not in text and "ops@example.org" not in text
        assert next(iter(channels.configured())) == "email" and "webhook-" not in text


@pytest.mark.parametrize(
    ("attempts", "word"), [(0, "Withdrawn"), (2, "Withdrawn"), (ATTEMPTS_MAX, "Given up")]
)
def test_what_is_over(
    showcase: Showcase, browse: Any, notice: FreezeNotice, attempts: int, word: str
) -> None:
    notice.deliveries.update(attempts=attempts, next_at=None, sent_at=None)
    assert word in page(browse(showcase.admin), f"{LIST}?q=quay")


def test_only_those_who_operate_pools_see_it(
    showcase: Showcase, browse: Any, notice: FreezeNotice
) -> None:
    assert browse(showcase.approver).get(LIST).status_code == 403
    assert LIST not in page(browse(showcase.approver), "/admin/")
    assert LIST in page(browse(showcase.admin), "/admin/")


def test_the_list_asks_the_same_however_long_it_is(
    showcase: Showcase, browse: Any, notice: FreezeNotice
) -> None:
    client = browse(showcase.admin)

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            page(client, LIST)
        return len(queries)

    before = asked()
    for number in range(4):
        row = FreezeNotice.objects.create(kind="freeze.began", about=now(), subject=f"{number}")
        NoticeDelivery.objects.create(notice=row, channel="email", sent_at=now())
    assert asked() == before
