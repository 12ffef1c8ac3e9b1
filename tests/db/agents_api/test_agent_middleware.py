"""Agents' requests pass by what pages need, but not by HTTPS."""

import asyncio


def ask(client):
    async def send():
        return await client.post("/api/agent/v1/heartbeat")

    return asyncio.run(send())


def test_the_middleware_of_pages_does_not_see_agents(async_client):
    answer = ask(async_client)
    assert answer.status_code == 401
    assert answer.headers["X-Request-ID"]
    assert "Content-Security-Policy" not in answer.headers  # set by what it passed by


def test_agents_without_https_are_redirected(async_client, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert ask(async_client).status_code == 301
