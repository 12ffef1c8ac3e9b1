import json

import pytest
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.test import RequestFactory
from psycopg_pool import PoolTimeout

from agents_app.api.problems import of_exception
from agents_app.exceptions import LogIncomplete
from tasks_app.exceptions import InvalidInput, SlipwayError


def answer(error):
    response = of_exception(RequestFactory().post("/api/agent/v1/work"), error)
    assert response["Content-Type"] == "application/problem+json"
    return response, json.loads(response.content)


def test_a_refusal_keeps_its_type_sentence_and_members():
    response, document = answer(LogIncomplete("Send the rest.", next_offset=7))
    assert response.status_code == document["status"] == 409
    assert document["type"] == "urn:slipway:log-incomplete"
    assert (document["detail"], document["next_offset"]) == ("Send the rest.", 7)


def test_a_refusal_names_its_field():
    assert answer(InvalidInput("no", field="offset"))[1]["field"] == "offset"


def test_members_never_hide_the_standard_ones():
    assert answer(SlipwayError("x", status=200, type="y"))[1]["status"] == 400


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("x"), PoolTimeout("x")])
def test_without_a_database_the_agent_shall_try_again(error):
    response, document = answer(error)
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert "gone" not in document["detail"]


def test_a_value_the_database_refuses_is_the_senders_fault():
    assert answer(DataError("too long"))[0].status_code == 400


@pytest.mark.parametrize("error", [IntegrityError("canary"), KeyError("canary")])
def test_a_defect_says_nothing_but_that_it_is_one(error, caplog):
    response, _ = answer(error)
    assert response.status_code == 500
    assert b"canary" not in response.content
    assert "canary" in caplog.text
