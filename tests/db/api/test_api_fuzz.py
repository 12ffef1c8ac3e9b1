"""The API against its own document: generated requests, good and bad, by two callers.

No answer may be a 500, lack in the document, or have another form than the document says; no
address may answer without a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.factories import make_admin, make_user
from tests.support.rest import Person
from tests.support.seeds import Seed, seed

document: Any = SchemaGenerator().get_schema(request=None, public=True)
schema = schemathesis.openapi.from_dict(document)
schema.app = get_wsgi_application()
# Agents' addresses have tests of their own; their tokens are no person's.
people = schema.exclude(path_regex="^/api/agent/")


@schemathesis.serializer("application/gzip")
def _archive(context: Any, value: Any) -> dict[str, Any]:
    """Send what was generated as it is: never a good archive."""
    return {"data": value if isinstance(value, bytes) else str(value).encode()}


#: Rules such as "there is such a pool" or "a secret is not that short" are beyond a schema.
BEYOND_SCHEMAS = [positive_data_acceptance]


def fuzz(examples: int, *phases: hypothesis.Phase) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=phases,
    )


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """One of everything and two callers, in a transaction around the tests' own."""
    with django_db_blocker.unblock():
        around = transaction.atomic()
        around.__enter__()
        yield {
            "found": seed(),
            "superuser": Person(make_admin()),
            "viewer": Person(make_user("viewer")),
        }
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _one_connection(world: dict[str, Any], db: None) -> Iterator[None]:
    """Requests stay in the test's transaction, as with Django's own client."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@people.parametrize()
@fuzz(4, hypothesis.Phase.explicit, hypothesis.Phase.generate)
def test_every_answer_to_a_superuser_is_as_documented(case: Any, world: dict[str, Any]) -> None:
    check(case, world, "superuser")


@people.parametrize()
@fuzz(2, hypothesis.Phase.generate)
def test_every_answer_to_a_viewer_is_as_documented(case: Any, world: dict[str, Any]) -> None:
    check(case, world, "viewer")


def check(case: Any, world: dict[str, Any], caller: str) -> None:
    """Send a generated request, its ids replaced by real ones, and judge the answer."""
    found: Seed = world["found"]
    for name in case.path_parameters or {}:
        real = found.of(case.path, name)
        if real is not None:
            case.path_parameters[name] = real
    token = world[caller].token
    case.call_and_validate(
        headers={"Authorization": f"Token {token}"}, excluded_checks=BEYOND_SCHEMAS
    )
