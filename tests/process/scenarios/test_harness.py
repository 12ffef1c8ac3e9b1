"""The harness itself: a server that is killed and started, and a proxy that breaks requests."""

from __future__ import annotations

import httpx
import pytest

from tests.support.platform import Platform
from tests.support.proxy import Action


def _get(platform: Platform, path: str = "livez") -> httpx.Response:
    return httpx.get(f"{platform.proxy.url}/{path}", timeout=10)


def test_a_killed_server_comes_back_on_the_same_address(platform: Platform) -> None:
    first = platform.server.pid
    platform.server.kill()
    with pytest.raises(httpx.TransportError):
        _get(platform)
    platform.start_server()
    assert _get(platform).text == "ok\n"
    assert platform.server.pid != first


def test_the_proxy_cuts_after_the_servers_answer_and_heals(platform: Platform) -> None:
    cut = platform.proxy.fault(Action.CUT, "GET", "^/livez", times=2)
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            _get(platform)
    cut.wait()
    assert platform.proxy.count("GET", "^/livez", 200) == 2
    assert _get(platform).is_success


def test_the_proxy_refuses_answers_and_goes_down(platform: Platform) -> None:
    platform.proxy.fault(Action.REFUSE, "GET", "^/livez")
    with pytest.raises(httpx.TransportError):
        _get(platform)
    assert platform.proxy.count("GET", "^/livez") == 0, "the server must not have heard of it"
    platform.proxy.fault(Action.ANSWER, "GET", "^/livez", status=500)
    assert _get(platform).status_code == 500
    with platform.proxy.down(), pytest.raises(httpx.TransportError):
        _get(platform)
    assert _get(platform).is_success
