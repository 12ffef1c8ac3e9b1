"""Bodies as servers deliver them: through ASGI, with a length or without one."""

import asyncio
import json

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connections

from tests.support.factories import make_admin, make_pod, make_pool, make_workspace
from tests.support.rest import Person, packed
from tests.support.seeds import seed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person():
    make_pod(make_pool())
    yield Person(make_admin())
    connections.close_all()


def ask(person, method, path, pieces=(), headers=()):
    """Send one request, its body in pieces; returns status, headers and body."""

    async def talk():
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": f"/api/v1/{path}",
            "raw_path": f"/api/v1/{path}".encode(),
            "query_string": b"",
            "headers": [
                (b"host", b"testserver"),
                (b"authorization", f"Token {person.token}".encode()),
                *headers,
            ],
        }
        talk = ApplicationCommunicator(get_asgi_application(), scope)
        for piece in pieces:
            await talk.send_input({"type": "http.request", "body": piece, "more_body": True})
        await talk.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await talk.receive_output(30)
        body = b""
        while True:
            part = await talk.receive_output(30)
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        await talk.wait(30)  # until the request's files are closed too
        return start["status"], dict(start["headers"]), body

    return asyncio.run(talk())


CHUNKED = (b"transfer-encoding", b"chunked")


def test_json_without_a_length_is_not_taken_for_an_empty_body(person):
    workspace = make_workspace()
    status, _, body = ask(
        person,
        "POST",
        f"workspaces/{workspace.pk}/plan/",
        [b'{"type": "plan",', b'"destroy": true}'],
        [CHUNKED, (b"content-type", b"application/json")],
    )
    assert status == 201
    assert (json.loads(body)["type"], json.loads(body)["destroy"]) == ("plan", True)


def test_json_without_a_length_has_its_limit(person, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    status, headers, _ = ask(
        person,
        "POST",
        "projects/",
        [b'{"name": "a", "description": "', b"x" * 200, b'"}'],
        [CHUNKED, (b"content-type", b"application/json")],
    )
    assert status == 413
    assert headers[b"Content-Type"] == b"application/problem+json"


def test_an_archive_without_a_length_is_stored(person):
    workspace = make_workspace(configured=False)
    archive = packed({"main.tf": "# nothing"})
    status, _, body = ask(
        person,
        "POST",
        f"workspaces/{workspace.pk}/configurations/",
        [archive[:20], archive[20:]],
        [CHUNKED, (b"content-type", b"application/gzip")],
    )
    assert status == 201, body
    assert json.loads(body)["size"] == len(archive)


def test_an_archive_in_a_form(person):
    workspace = make_workspace(configured=False)
    archive = packed({"main.tf": "# nothing"})
    form = b"\r\n".join(
        [
            b"--X",
            b'Content-Disposition: form-data; name="archive"; filename="a.tar.gz"',
            b"Content-Type: application/gzip",
            b"",
            archive,
            b"--X",
            b'Content-Disposition: form-data; name="message"',
            b"",
            b"by form",
            b"--X--",
            b"",
        ]
    )
    status, _, body = ask(
        person,
        "POST",
        f"workspaces/{workspace.pk}/configurations/",
        [form],
        [
            (b"content-type", b"multipart/form-data; boundary=X"),
            (b"content-length", str(len(form)).encode()),
        ],
    )
    assert status == 201, body
    assert json.loads(body)["message"] == "by form"
    assert json.loads(body)["size"] == len(archive)


def test_downloads_are_streamed(person):
    ids = seed().ids
    status, headers, body = ask(
        person,
        "GET",
        "workspaces/{workspaces}/state-versions/{state-versions}/download/".format(**ids),
    )
    assert status == 200
    assert headers[b"Cache-Control"] == b"no-store"
    assert json.loads(body)["serial"] == 1
