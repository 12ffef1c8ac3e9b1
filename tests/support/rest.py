"""A person at the REST API: requests with a token, through Django's test client."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken


class Person:
    """Sends requests as ``user``; remembers nothing."""

    def __init__(self, user: User | None) -> None:
        self.user = user
        self.token = AuthToken.objects.create(user=user)[1] if user else ""
        self._client = Client()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Any:
        """Send one request; ``body`` is bytes, or anything for JSON."""
        sent = dict(headers or {})
        if self.token:
            sent["Authorization"] = f"Token {self.token}"
        content = body if isinstance(body, bytes) else json.dumps(body) if body is not None else ""
        address = path if path.startswith("/") else f"/api/v1/{path}"
        return self._client.generic(
            method,
            address,
            content,
            content_type=content_type,
            headers=sent,
            query_params=query or None,
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.send("GET", path, **query)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.send("POST", path, {} if body is None else body, **options)

    def patch(self, path: str, body: Any) -> Any:
        return self.send("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.send("DELETE", path)

    def upload(self, path: str, archive: bytes, **options: Any) -> Any:
        return self.send("POST", path, archive, content_type="application/gzip", **options)


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem document of an answer, which must have ``status``."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:slipway:")
    assert document["title"]
    assert document["detail"]
    return document


def packed(files: dict[str, str]) -> bytes:
    """Return a tar.gz of ``files``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return archive.getvalue()
