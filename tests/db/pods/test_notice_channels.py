"""Notices on their way: webhooks of a real server, e-mail, attempts and their end."""

import base64
import hashlib
import hmac
import logging
import smtplib
import time
from datetime import datetime, timedelta

import pytest
from django.core import mail

from pods_app.freeze.notices import channels, passes
from pods_app.freeze.notices.passes import notice_pass
from pods_app.models import FreezeNotice, NoticeDelivery
from tests.support.factories import make_pool
from tests.support.freezes import now, window_row
from tests.support.notices import KEY, SECRET, receiver

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hook(settings):
    with receiver() as found:
        settings.NOTICE_WEBHOOK_URLS = [found.url]
        settings.NOTICE_WEBHOOK_SECRETS = [SECRET]
        yield found


def due_again():
    return NoticeDelivery.objects.filter(next_at__isnull=False).update(next_at=now() - MINUTE)


def delivery():
    return NoticeDelivery.objects.get()


def test_what_a_webhook_gets_is_signed_and_the_same_at_every_attempt(hook, settings):
    settings.NOTICE_WEBHOOK_SECRETS = [SECRET, OTHER]
    hook.answer = 500
    window_row(make_pool(name="main"), begins=10 * MINUTE, ends=60 * MINUTE)
    assert notice_pass() == 0
    hook.answer = 204
    due_again()
    assert notice_pass() == 2 and notice_pass() == 0
    assert [one["type"] for one in hook.bodies[:2]] == ["channel.added", "freeze.in_15_minutes"]
    (first, body), (again, same) = hook.got[1], hook.got[3]
    assert body == same and first["webhook-id"] == again["webhook-id"]
    assert first["webhook-id"] == str(FreezeNotice.objects.get(kind="freeze.in_15_minutes").pk)
    assert abs(int(first["webhook-timestamp"]) - time.time()) < 60
    signed = f"{first['webhook-id']}.{first['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    signatures = first["webhook-signature"].split(" ")
    assert signatures[0] == f"v1,{expected}" and len(set(signatures)) == 2
    found = hook.bodies[1]
    assert found["data"]["pools"] == ["main"] and found["data"]["window"] == "quarter end"
    assert datetime.fromisoformat(found["data"]["since"]) == datetime.fromisoformat(
        found["timestamp"]
    )


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (500, "It answered 500"),
        (404, "It answered 404"),
        (302, "It redirects (302), which is not followed"),
        (307, "It redirects (307), which is not followed"),
        (lambda request: request.connection.close(), "It was not reached (ReadError)"),
        (lambda request: time.sleep(2), "No answer within 0 seconds"),
    ],
)
def test_a_webhook_that_does_not_take_it(hook, caplog, monkeypatch, answer, error):
    """It is tried again later, and nothing says its address."""
    monkeypatch.setattr(channels, "TIMEOUT", 0.3 if "No answer" in error else 10.0)
    hook.answer = answer
    caplog.set_level(logging.INFO)
    assert notice_pass() == 0
    row = delivery()
    assert row.attempts == 1 and row.sent_at is None
    assert row.error == error or row.error == "It was not reached (RemoteProtocolError)"
    assert 50 < (row.next_at - now()).total_seconds() <= 60
    assert notice_pass() == 0 and len(hook.got) == 1  # not before its time, and nowhere else
    said = f"{caplog.text} {row.channel} {row.error} {channels.configured()}"
    assert "very-secret-token" not in said and "127.0.0.1" not in said and SECRET not in said


def test_one_that_drips_does_not_hold_the_pass(hook, monkeypatch):
    """The time counts for the whole answer, not for each byte."""
    monkeypatch.setattr(channels, "TIMEOUT", 0.5)

    def drip(request):
        try:
            for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 60:
                request.wfile.write(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            return  # it hung up

    hook.answer = drip
    assert notice_pass() == 0 and delivery().error.startswith("No answer")


def test_nobody_there(hook, settings):
    settings.NOTICE_WEBHOOK_URLS = ["http://127.0.0.1:1/very-secret-token"]
    assert notice_pass() == 0 and delivery().error == "It was not reached (ConnectError)"


def test_attempts_are_further_and_further_apart_and_end(hook, caplog):
    hook.answer = 503
    pauses = []
    for _ in range(passes.ATTEMPTS_MAX):
        notice_pass()
        row = delivery()
        if row.next_at:
            pauses.append(round((row.next_at - now()).total_seconds() / 60))
        due_again()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert row.next_at is None and row.error == "It answered 503" and len(hook.got) == 10
    assert "is given up: It answered 503" in caplog.text
    assert notice_pass() == 0 and len(hook.got) == 10


def test_an_attempt_that_dies_is_made_again_and_at_last_given_up(hook, monkeypatch):
    def die(*args):
        raise SystemExit  # as the worker does at its time limit

    with monkeypatch.context() as broken:
        broken.setattr(channels, "_post", die)
        for _ in range(passes.ATTEMPTS_MAX):
            with pytest.raises(SystemExit):
                notice_pass()
            due_again()
    assert notice_pass() == 0 and hook.got == []
    assert delivery().next_at is None and delivery().error == "No attempt came to its end"


def test_one_bad_channel_keeps_no_other_from_its_messages(hook, settings):
    settings.NOTICE_EMAILS = ["ops@example.org", "boss@example.org"]
    with receiver() as other:
        settings.NOTICE_WEBHOOK_URLS = [other.url, hook.url]
        other.answer = 500
        assert notice_pass() == 2 and len(mail.outbox) == 1
        due_again()
        other.answer = 200
        assert notice_pass() == 1
    assert len(hook.got) == 1 and len(other.got) == 2 and len(mail.outbox) == 1
    kinds = sorted(one.channel.partition("-")[0] for one in NoticeDelivery.objects.all())
    assert kinds == ["email", "webhook", "webhook"]


def test_a_channel_that_is_taken_away_is_waited_for_no_more(hook, settings):
    hook.answer = 500
    notice_pass()
    due_again()
    settings.NOTICE_WEBHOOK_URLS, settings.NOTICE_EMAILS = [], ["ops@example.org"]
    assert notice_pass() == 1
    gone = NoticeDelivery.objects.exclude(channel="email").get()
    assert gone.next_at is None and gone.error == "The channel is not set any more"


def test_an_email_says_who_it_is_from_and_that_a_program_wrote_it(settings):
    settings.NOTICE_EMAILS = ["ops@example.org", "boss@example.org"]
    settings.DEFAULT_FROM_EMAIL = "slipway@example.org"
    assert notice_pass() == 1
    (message,) = mail.outbox
    assert message.to == settings.NOTICE_EMAILS and message.from_email == "slipway@example.org"
    headers = message.message()
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["Message-ID"] == f"<{FreezeNotice.objects.get().pk}@127.0.0.1>"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (smtplib.SMTPAuthenticationError(535, b"no, ops@example.org"), "refused it with 535"),
        (smtplib.SMTPRecipientsRefused({"ops@example.org": (550, b"no")}), "did not take it"),
        (TimeoutError("timed out"), "was not reached (TimeoutError)"),
        (ValueError("ops@example.org"), "ValueError"),
    ],
)
def test_a_mail_server_that_does_not_take_it(settings, monkeypatch, caplog, error, words):
    def refuse(*args, **kwargs):
        raise error

    settings.NOTICE_EMAILS = ["ops@example.org"]
    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    assert notice_pass() == 0
    assert words in delivery().error and delivery().attempts == 1
    assert "ops@example.org" not in caplog.text + delivery().error


def test_a_name_with_a_line_break_stays_in_its_line(settings):
    settings.NOTICE_EMAILS = ["ops@example.org"]
    notice_pass()
    window_row(make_pool(name="main"), begins=10 * MINUTE, ends=60 * MINUTE)
    make_pool(name="a\nBcc: evil@example.org")
    window_row(name="b", begins=10 * MINUTE, ends=60 * MINUTE)
    assert notice_pass() == 2
    assert all("\n" not in message.subject for message in mail.outbox)
