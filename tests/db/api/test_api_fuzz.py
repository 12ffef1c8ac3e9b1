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
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.factories import make_admin, make_user
from tests.support.rest import Person
from tests.support.seeds import Seed, seed

EXAMPLES = 8

document: Any = SchemaGenerator().get_schema(request=None, public=True)
schema = schemathesis.openapi.from_dict(document)
schema.app = get_wsgi_application()
# Agents' addresses have tests of their own; their tokens are no person's.
people = schema.exclude(path_regex="^/api/agent/")

#: JSON has more kinds of text than a form does, and rules such as "no such workspace", "not
#: shorter than a secret" or "at least one file in it" cannot be said in a schema.
BEYOND_SCHEMAS = [positive_data_acceptance, negative_data_rejection]

fuzz = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
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


@pytest.mark.parametrize("caller", ["superuser", "viewer"])
@people.parametrize()
@fuzz
def test_every_answer_is_as_documented(case: Any, caller: str, world: dict[str, Any]) -> None:
    found: Seed = world["found"]
    for name in case.path_parameters or {}:
        real = found.of(case.path, name)
        if real is not None:
            case.path_parameters[name] = real
    token = world[caller].token
    case.call_and_validate(
        headers={"Authorization": f"Token {token}"}, excluded_checks=BEYOND_SCHEMAS
    )
