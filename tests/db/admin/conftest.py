from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from tests.support import showcase as showcases


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a module's tests on one worker, so that the installation is built once for it."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="module")
def _built(django_db_setup: None, django_db_blocker: Any) -> Iterator[showcases.Showcase]:
    """The installation, committed; each test's transaction is rolled back to it."""
    with django_db_blocker.unblock():
        built = showcases.build()
    yield built
    with django_db_blocker.unblock():
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture
def showcase(_built: showcases.Showcase, db: None) -> showcases.Showcase:
    """An installation with tasks in every state, read anew."""
    named = {field.name: getattr(_built, field.name) for field in fields(_built)}
    fresh = {name: type(row)._base_manager.get(pk=row.pk) for name, row in named.items()}
    return showcases.Showcase(**fresh)


@pytest.fixture
def browse() -> Callable[[User], Client]:
    """Return a client signed in as a user."""

    def client(user: User) -> Client:
        found = Client()
        found.force_login(user)
        return found

    return client
