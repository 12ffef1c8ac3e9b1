"""Who calls, with which lease: read from a request of the agents' API."""

from __future__ import annotations

from django.http import HttpRequest

from tasks_app.exceptions import InvalidInput, Unauthenticated

#: PostgreSQL's integer.
_EPOCH_MAX = 2**31 - 1


def bearer(request: HttpRequest) -> str:
    """Return the token of the ``Authorization`` header.

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send the header “Authorization: Bearer <token>”.")
    return token.strip()


def number(request: HttpRequest, name: str, maximum: int = _EPOCH_MAX) -> int:
    """Return a whole number of the query string.

    Raises:
        InvalidInput: missing, not a number, negative or too large.
    """
    text = request.GET.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= maximum):
        raise InvalidInput(f"“{name}” in the query string must be a whole number.", field=name)
    return int(text)
