"""A forked process, as every worker of django-q2 is, has connections of its own."""

import os

import pytest
from django.db import connection


def backend():
    """Return the id of the PostgreSQL process that answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.django_db(transaction=True)
def test_a_child_does_not_use_its_parents_connection():
    mine = backend()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(backend()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        theirs = answer.read()
    os.waitpid(child, 0)
    assert theirs
    assert int(theirs) != mine
    assert backend() == mine  # the child's end did not end the parent's session
