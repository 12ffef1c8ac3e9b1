"""``Idempotency-Key``: the same request again gets the same answer and has no second effect.

Key, action and answer commit in one transaction: after a crash either all of it happened or
nothing, and no key stays "in flight" for ever. An advisory lock of that transaction tells a
second request at the same time (409); the unique constraint is the last guard. A refused
request stores nothing and may be repeated under its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from tasks_app.exceptions import Conflict, InvalidInput, SlipwayError
from tasks_app.keyring import keyring
from tasks_app.models import IdempotencyKey

HEADER = "Idempotency-Key"
KEY_LENGTH_MAX = 255
_KEPT_HEADERS = ("Location",)


class KeyReused(SlipwayError):
    """The key came before with another request."""

    type = "idempotency-key-reused"
    title = "This Idempotency-Key came before with another request; use a new one."
    status = 422


class KeyInFlight(Conflict):
    """The first request with this key is not answered yet."""

    type = "idempotency-key-in-flight"
    title = "The first request with this Idempotency-Key still runs; ask again in a moment."


def run_once(request: Request, key: str, digest: str, action: Callable[[], Response]) -> Response:
    """Carry out ``action`` unless this key did before; then repeat its answer.

    Args:
        digest: SHA-256 of the body.

    Raises:
        InvalidInput: the key is no usable text.
        KeyReused, KeyInFlight.
    """
    if not (0 < len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        raise InvalidInput(f"Use 1 to {KEY_LENGTH_MAX} printable characters.", field=HEADER)
    user = request.user
    assert isinstance(user, User)
    fingerprint = hashlib.sha256(
        f"{request.method} {request.get_full_path()} {digest}".encode()
    ).hexdigest()
    with transaction.atomic():
        if not _try_lock(f"{user.pk}/{key}"):
            raise KeyInFlight()
        row = IdempotencyKey.objects.filter(user=user, key=key).first()
        if row is not None:
            return _replay(row, fingerprint)
        response = action()
        _store(user, key, fingerprint, response)
    return response


def _try_lock(name: str) -> bool:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        return bool(cursor.fetchone()[0])


def _store(user: User, key: str, fingerprint: str, response: Response) -> None:
    headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
    answer = json.dumps({"headers": headers, "data": response.data}, cls=JSONEncoder)
    row = IdempotencyKey(user=user, key=key, fingerprint=fingerprint, status=response.status_code)
    keyring().encrypt_row(row, answer.encode())
    row.save(force_insert=True)


def _replay(row: IdempotencyKey, fingerprint: str) -> Response:
    if row.fingerprint != fingerprint:
        raise KeyReused()
    answer: dict[str, Any] = json.loads(keyring().decrypt_row(row))
    headers = {**answer["headers"], "Idempotency-Replayed": "true"}
    return Response(answer["data"], status=row.status, headers=headers)
