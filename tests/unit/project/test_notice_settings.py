"""Notices that could not be sent are found at start; nothing that is secret is said."""

import base64

import pytest

from config import checks

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def good(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.NOTICE_EMAILS = ["ops@example.org"]
    settings.NOTICE_WEBHOOK_URLS = ["https://chat.example/hook/token"]
    settings.NOTICE_WEBHOOK_SECRETS = [SECRET]


def test_what_is_complete_is_good(settings):
    assert checks.check_notices(None) == []
    settings.NOTICE_EMAILS = settings.NOTICE_WEBHOOK_URLS = settings.NOTICE_WEBHOOK_SECRETS = []
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    assert checks.check_notices(None) == []


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("EMAIL_BACKEND", "django.core.mail.backends.dummy.EmailBackend", "EMAIL_URL"),
        ("NOTICE_EMAILS", ["ops"], "NOTICE_EMAILS"),
        ("NOTICE_WEBHOOK_URLS", ["chat.example/token"], "NOTICE_WEBHOOK_URLS"),
        ("NOTICE_WEBHOOK_URLS", ["ftp://chat.example/token"], "NOTICE_WEBHOOK_URLS"),
        ("NOTICE_WEBHOOK_URLS", ["https://[token"], "NOTICE_WEBHOOK_URLS"),
        ("NOTICE_WEBHOOK_SECRETS", [], "whsec_"),
        ("NOTICE_WEBHOOK_SECRETS", [SECRET, "token"], "entry 2"),
        ("NOTICE_WEBHOOK_SECRETS", ["whsec_token"], "entry 1"),
        ("NOTICE_WEBHOOK_SECRETS", ["whsec_dG9rZW4="], "entry 1"),
    ],
)
def test_what_is_wrong_is_named(settings, name, value, named):
    setattr(settings, name, value)
    (message,) = checks.check_notices(None)
    assert message.id == "slipway.E008" and named in str(message)
    assert "token" not in str(message) and "dG9rZW4" not in str(message)


def test_libraries_do_not_log_the_addresses_of_webhooks(settings):
    assert settings.LOGGING["loggers"]["httpx"]["level"] == "WARNING"
    assert settings.LOGGING["loggers"]["httpcore"]["level"] == "WARNING"
