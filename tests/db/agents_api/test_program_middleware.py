"""Requests of agents and of Terraform pass by what pages need, but not by HTTPS."""

import asyncio
from uuid import uuid4

import pytest

ADDRESSES = pytest.mark.parametrize(
    ("method", "address"),
    [("POST", "/api/agent/v1/heartbeat"), ("LOCK", f"/api/state/v1/{uuid4()}/")],
    ids=["agent", "state"],
)


def ask(client, method, address):
    async def send():
        return await client.generic(method, address)

    return asyncio.run(send())


@ADDRESSES
def test_the_middleware_of_pages_does_not_see_programs(async_client, method, address):
    answer = ask(async_client, method, address)
    assert answer.status_code == 401
    assert answer.headers["X-Request-ID"]
    assert "Content-Security-Policy" not in answer.headers  # set by what it passed by


@ADDRESSES
def test_programs_without_https_are_redirected(async_client, settings, method, address):
    settings.SECURE_SSL_REDIRECT = True
    assert ask(async_client, method, address).status_code == 301
