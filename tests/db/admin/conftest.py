from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support import showcase as showcases


@pytest.fixture
def showcase(db: None) -> showcases.Showcase:
    """An installation with tasks in every state."""
    return showcases.build()


@pytest.fixture
def browse():
    """Return a client signed in as a user."""

    def client(user: User) -> Client:
        found = Client()
        found.force_login(user)
        return found

    return client
