"""The ways out: e-mail, and webhooks as https://www.standardwebhooks.com describes them.

Addresses and secrets stay in the settings: rows know a channel by a keyed digest, and errors are
put in words of our own, because those of libraries may quote an address.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from smtplib import SMTPException, SMTPResponseException
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.crypto import salted_hmac

from pods_app.models import FreezeNotice

EMAIL, WEBHOOK = "email", "webhook"
SECRET_PREFIX = "whsec_"
#: A webhook answers within this, in seconds, or has not.
TIMEOUT = 10.0


class NotDelivered(Exception):
    """A channel did not take a message; the text says why, without its address."""


@dataclass(frozen=True)
class Channel:
    """A way out; ``id`` is ``email``, or ``webhook-`` and a digest of the address."""

    id: str
    #: Raises NotDelivered.
    send: Callable[[FreezeNotice], None] = field(repr=False)


def configured() -> dict[str, Channel]:
    """Return the channels of the settings by id."""
    found = [Channel(EMAIL, _mail)] if settings.NOTICE_EMAILS else []
    for url in settings.NOTICE_WEBHOOK_URLS:
        digest = salted_hmac("pods_app.freeze.notices", url).hexdigest()[:16]
        found.append(Channel(f"{WEBHOOK}-{digest}", partial(_post, url)))
    return {channel.id: channel for channel in found}


def _mail(notice: FreezeNotice) -> None:
    """Send one message to all addresses; a repeated one has the same id."""
    host = urlsplit(settings.SLIPWAY.url).hostname or "slipway"
    message = EmailMessage(
        f"[Slipway] {notice.subject}",
        f"{notice.text}\n",
        to=settings.NOTICE_EMAILS,
        headers={"Message-ID": f"<{notice.pk}@{host}>", "Auto-Submitted": "auto-generated"},
    )
    try:
        message.send()
    except SMTPResponseException as error:
        raise NotDelivered(f"The mail server refused it with {error.smtp_code}") from None
    except SMTPException as error:
        raise NotDelivered(f"The mail server did not take it ({type(error).__name__})") from None
    except OSError as error:
        raise NotDelivered(f"The mail server was not reached ({type(error).__name__})") from None


def _post(url: str, notice: FreezeNotice) -> None:
    body = body_of(notice)
    try:
        status = asyncio.run(_answer(url, body, signed(str(notice.pk), int(time.time()), body)))
    except (TimeoutError, httpx.TimeoutException):
        raise NotDelivered(f"No answer within {TIMEOUT:.0f} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotDelivered(f"It was not reached ({type(error).__name__})") from None
    if 300 <= status < 400:
        raise NotDelivered(f"It redirects ({status}), which is not followed")
    if not 200 <= status < 300:
        raise NotDelivered(f"It answered {status}")


async def _answer(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status; the body is not read, and the time counts for all of it."""
    async with (
        asyncio.timeout(TIMEOUT),
        httpx.AsyncClient(follow_redirects=False, timeout=TIMEOUT) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code


def body_of(notice: FreezeNotice) -> bytes:
    """Return what webhooks get: the same at every attempt."""
    return json.dumps(
        {
            "type": notice.kind,
            "timestamp": notice.about.astimezone(UTC).isoformat(),
            "subject": notice.subject,
            "text": notice.text,
            "data": notice.data,
        }
    ).encode()


def signed(message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message; its id is the idempotency key.

    Args:
        timestamp: of this attempt, in Unix seconds.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(key_of(secret), content, hashlib.sha256)).decode()
        for secret in settings.NOTICE_WEBHOOK_SECRETS
    ]
    return {
        "content-type": "application/json",
        "user-agent": "Slipway",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret.

    Raises:
        ValueError: it is not ``whsec_`` and base64 of 24 to 64 bytes.
    """
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError("no prefix")
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    if not 24 <= len(key) <= 64:
        raise ValueError("not 24 to 64 bytes")
    return key
