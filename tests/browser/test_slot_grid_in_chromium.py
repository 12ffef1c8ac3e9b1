"""The slot grid is refreshed in place: whoever reads or tabs through it is not disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from pods_app.models import ManagedPod
from tests.support.factories import make_pod, make_pool

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit


def test_a_refresh_keeps_scroll_and_focus(server: Server, visit: Callable[..., Visit]) -> None:
    def make() -> list[ManagedPod]:
        pool = make_pool(name="a-large-one")
        made = [make_pod(pool) for _ in range(30)]
        return sorted(made, key=lambda pod: (len(pod.pod_name), pod.pod_name))

    pods = server.run(make)
    path = f"/admin/pods_app/managedpod/grid/?pool={pods[0].pool_id}"
    page = visit(width=400).open(path)
    link = page.locator(f"#pod-{pods[15].pk}")
    link.focus()
    link.evaluate("one => one.scrollIntoView({ block: 'center' })")
    top = page.evaluate("window.scrollY")
    assert top > 0
    server.run(lambda: ManagedPod.objects.filter(pk=pods[2].pk).update(phase="gone"))
    expect(page.locator(f"#pod-{pods[2].pk}")).to_have_count(0)
    expect(link).to_be_focused()
    assert page.evaluate("window.scrollY") == top
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
