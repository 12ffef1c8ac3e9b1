"""A server with a whole installation, and Chromium, which may speak to this machine only.

Playwright's event loop runs in the main thread as long as the browser is open, where Django
then refuses to use the database; tests do that by `server.run`, in a thread of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import pytest
from django.core.management import call_command
from django.db import connection, connections
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from config.launch import free_port
from tests.support import showcase as showcases
from tests.support.requirements import missing

ROOT = Path(__file__).resolve().parent.parent.parent
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
_READY_SECONDS = 60
_PATIENCE_MS = 20_000
expect.set_options(timeout=_PATIENCE_MS)
Result = TypeVar("Result")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They need the database, and one worker: one server, one browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.django_db)
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture
def _django_db_helper() -> None:
    """No transaction around a test: the server is another process."""


@dataclass
class Server:
    """The server under test and the way to its database."""

    url: str
    showcase: showcases.Showcase
    run: Callable[[Callable[[], Any]], Any]
    #: Cookies of those who signed in before.
    signed_in: dict[str, Any] = field(default_factory=dict)


def _database_url() -> str:
    """Return the address of this worker's test database."""
    settings: Any = connection.settings_dict
    password = f":{quote(settings['PASSWORD'])}" if settings["PASSWORD"] else ""
    user = quote(settings["USER"]) + password
    host = settings["HOST"] or settings["OPTIONS"].get("host", "")
    if host.startswith("/"):
        return f"postgres://{user}@/{settings['NAME']}?host={quote(host)}"
    port = f":{settings['PORT']}" if settings["PORT"] else ""
    return f"postgres://{user}@{host}{port}/{settings['NAME']}"


@pytest.fixture(scope="package")
def chromium() -> str:
    """The path of the system's Chromium."""
    found = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        missing("Chromium is not installed (Debian: apt-get install chromium)")
    assert found is not None
    return found


@pytest.fixture(scope="package")
def server(
    chromium: str, django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any
) -> Iterator[Server]:
    """Uvicorn with the showcase, in a process of its own."""
    with ThreadPoolExecutor(1) as database, django_db_blocker.unblock():

        def run(function: Callable[[], Any]) -> Any:
            return database.submit(function).result()

        built = run(showcases.build)
        url = f"http://127.0.0.1:{free_port()}"
        log = tmp_path_factory.mktemp("server") / "web.log"
        environment = os.environ | {"DATABASE_URL": _database_url(), "DATABASE_POOL_SIZE": "8"}
        command = [sys.executable, "-m", "uvicorn", "config.asgi:application"]
        command += ["--port", url.rpartition(":")[2], "--no-access-log"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            _wait(url, process, log)
            yield Server(url, built, run)
        finally:
            process.terminate()
            process.wait()
            run(connections.close_all)
            run(lambda: call_command("flush", verbosity=0, interactive=False))
            run(connections.close_all)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(_READY_SECONDS * 5):
        try:
            if httpx.get(f"{url}/livez", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(f"the server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield opened
        opened.close()


@dataclass
class Visit:
    """A signed-in person's page, and what went wrong in it."""

    page: Page
    server: Server
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a path and wait until the page's own requests are answered."""
        self.page.goto(self.server.url + path)
        return self.page

    def task(self, task: Any) -> Page:
        """Go to a task's page."""
        return self.open(f"/admin/tasks_app/task/{task.pk}/change/")


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Return how a person visits; at the end, nothing foreign and no error may have come up."""
    contexts: list[BrowserContext] = []
    visits: list[Visit] = []

    def start(user: Any = None, *, width: int = 1440, dark: bool = False) -> Visit:
        person = user or server.showcase.admin
        context = browser.new_context(
            storage_state=server.signed_in.get(person.get_username()),
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(_PATIENCE_MS)
        contexts.append(context)
        found = Visit(context.new_page(), server)

        def only_here(route: Route) -> None:
            parts = urlsplit(route.request.url)
            if parts.hostname == "127.0.0.1" or parts.scheme in {"data", "blob"}:
                route.continue_()
            else:
                found.foreign.append(route.request.url)
                route.abort()

        context.route("**/*", only_here)
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on(
            "console",
            lambda message: found.errors.append(message.text) if message.type == "error" else None,
        )
        if person.get_username() not in server.signed_in:
            sign_in(found, person)
            server.signed_in[person.get_username()] = context.storage_state()
        visits.append(found)
        return found

    yield start
    for context in contexts:
        context.close()
    assert [one.foreign for one in visits if one.foreign] == []
    assert [one.errors for one in visits if one.errors] == []


def sign_in(visit: Visit, user: Any) -> None:
    """Log in through the form, as a person does."""
    page = visit.open("/admin/")
    page.locator("[name=username]").fill(user.get_username())
    page.locator("[name=password]").fill(showcases.PASSWORD)
    page.locator("[name=password]").press("Enter")
    page.wait_for_selector("[data-live]")
