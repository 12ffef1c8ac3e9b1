"""The API's page under the content security policy, without a request to another host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect


def test_the_page_shows_and_sends_requests(visit: Callable[..., Any]) -> None:
    page = visit().open("/api/v1/docs/")
    listing = page.locator("#operations-tasks-tasks_list")
    expect(listing).to_be_visible(timeout=60_000)
    listing.locator(".opblock-summary-control").click()
    listing.get_by_role("button", name="Try it out").click()
    listing.get_by_role("button", name="Execute").click()
    expect(listing.locator(".live-responses-table tbody .response-col_status")).to_contain_text(
        "200"
    )
