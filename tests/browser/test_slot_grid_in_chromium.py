"""The slot grid: whoever reads or tabs through it is not disturbed; what can be done in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from pods_app.models import ManagedPod
from tests.browser.test_accessibility import check
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


def test_a_pod_is_drained_from_its_card(server: Server, visit: Callable[..., Visit]) -> None:
    """The dialog names the pod; afterwards the focus is on what undoes it."""
    pod = server.run(lambda: make_pod(make_pool(name="another-one")))
    page = visit(width=400).open(f"/admin/pods_app/managedpod/grid/?pool={pod.pool_id}")
    page.get_by_role("button", name=f"Drain {pod.pod_name}").click()
    dialog = page.get_by_role("dialog", name=f"Give {pod.pod_name} no new work?")
    dialog.get_by_label("Reason").fill("a new disk")
    dialog.get_by_role("button", name="Drain").click()
    expect(page.get_by_text("a new disk")).to_be_visible()
    undrain = page.get_by_role("button", name=f"Undrain {pod.pod_name}")
    expect(undrain).to_be_focused()
    undrain.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Let {pod.pod_name} take work again?")
    check(page)
    dialog.press("Escape")
    expect(undrain).to_be_focused()
    check(page)
