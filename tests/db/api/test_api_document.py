"""The OpenAPI document and its page."""

import re

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from agents_app import schema as agents_schema


@pytest.fixture(scope="module")
def document():
    GENERATOR_STATS.reset()
    found = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, "the document is made without a warning"
    return found


def test_the_document_is_valid(document):
    validate_schema(document)


def test_every_operation_names_its_refusals(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            expected = {"401", "403", "503"}
            if "{" in path:
                expected.add("404")
            if method in {"post", "patch", "put"}:
                expected |= {"400", "409", "413"}
            assert expected <= set(operation["responses"]), (method, path)


def test_added_fields_and_filters_are_in_it(document):
    schemas = document["components"]["schemas"]
    assert "pool" in schemas["Task"]["properties"]
    assert "agent" in schemas["Task"]["properties"]
    assert "pool" in schemas["Workspace"]["properties"]
    assert "pool" in schemas["NewWorkspaceInputRequest"]["properties"]
    parameters = document["paths"]["/api/v1/tasks/"]["get"]["parameters"]
    assert "pool" in {parameter["name"] for parameter in parameters}


def test_unknown_fields_are_refused_in_it_too(document):
    assert document["components"]["schemas"]["PlanInputRequest"]["additionalProperties"] is False


def test_every_line_of_the_agents_table_is_in_it(document):
    rows = re.findall(r"^(GET|POST|PUT) +(\S+)", agents_schema.__doc__, re.MULTILINE)
    assert len(rows) == 12
    for method, path in rows:
        address = "/api/agent/v1/" + path.partition("?")[0].replace("<id>", "{lease_id}").replace(
            "<kind>", "{kind}"
        )
        assert method.lower() in document["paths"][address]


@pytest.mark.django_db
def test_the_page_and_its_script_ask_no_other_host_and_hold_no_inline_script(client):
    page = client.get("/api/v1/docs/")
    text = page.content.decode()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert not re.findall(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", text)
    for script in re.findall(r'<script[^>]*src="([^"]+)"', text):
        answer = client.get(script.replace("&amp;", "&"))
        assert answer.status_code == 200, script
        if hasattr(answer, "streaming_content"):
            b"".join(answer.streaming_content)
            answer.close()
    document = client.get("/api/v1/schema/", headers={"Accept": "application/json"})
    assert document.status_code == 200
