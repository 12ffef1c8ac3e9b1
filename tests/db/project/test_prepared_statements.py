"""Statements are prepared, unless a pooler stands between: ADR 14."""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.conf import settings
from django.db import NotSupportedError, connection

from pods_app.models import Lease
from pods_app.wishes import wishes
from tasks_app.threads import run_in
from tests.support.factories import make_pod, make_pool

ONE = "SELECT statement FROM pg_prepared_statements"
#: The pool gives out its connections in turn; one prepares what it is asked for the third time.
_POOL, _ROUNDS = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"], 3
_ALTER = "ALTER TABLE pods_app_lease ALTER COLUMN end_reason TYPE varchar(300)"
OPTIONS = """
import json
from django.conf import settings
options = settings.DATABASES["default"]["OPTIONS"]
print(json.dumps([options["server_side_binding"], options["prepare_threshold"]]))
"""


@pytest.mark.django_db
def test_what_is_asked_again_is_prepared():
    pod = make_pod(make_pool())
    for _ in range(3):
        wishes(pod)
        list(Lease.objects.filter(task__number=1))
    with connection.cursor() as cursor:
        cursor.execute(ONE)
        prepared = [row[0] for row in cursor.fetchall()]
    assert any("task_cancel" in one for one in prepared), "plain SQL"
    assert any('"workspace_tasks"."number" = $1' in one for one in prepared), "Django's own"


@pytest.mark.django_db(transaction=True)
def test_a_column_that_a_migration_adds_breaks_nothing_that_is_prepared():
    pod = make_pod(make_pool())
    for _ in range(3):
        wishes(pod)
    migration = connection.copy()  # psycopg forgets what is prepared where something is altered
    try:
        with migration.cursor() as cursor:
            cursor.execute("ALTER TABLE pods_app_lease ADD COLUMN later integer")
        assert wishes(pod) == []
    finally:
        with migration.cursor() as cursor:
            cursor.execute("ALTER TABLE pods_app_lease DROP COLUMN later")
        migration.close()


@pytest.mark.django_db(transaction=True)
def test_a_column_that_a_migration_alters_costs_a_program_one_request_of_a_connection():
    """PostgreSQL refuses what it had prepared; the connection is not used again."""
    pod = make_pod(make_pool())
    answers = []
    migration = connection.copy()
    migration.ensure_connection()  # its own; what it alters, it forgets itself
    try:
        with ThreadPoolExecutor(1) as executor, migration.cursor() as cursor:
            ask = partial(run_in, executor, wishes, pod)
            for _ in range(_ROUNDS * _POOL):
                asyncio.run(ask())
            cursor.execute(_ALTER, [])
            for _ in range(_ROUNDS * _POOL):
                try:
                    answers.append(asyncio.run(ask()))
                except NotSupportedError as error:
                    answers.append(str(error))
            cursor.execute(_ALTER.replace("300", "250"), [])
    finally:
        migration.close()
    failed = [answer for answer in answers if answer]
    assert failed and all("cached plan" in answer for answer in failed)
    assert answers[-_POOL:] == [[]] * _POOL


@pytest.mark.parametrize(
    ("direct", "expected"), [("", [True, 2]), ("postgres://direct/x", [False, None])]
)
def test_nothing_is_prepared_behind_a_pooler(direct, expected):
    found = subprocess.run(
        [sys.executable, "-c", OPTIONS],
        env={**os.environ, "DATABASE_DIRECT_URL": direct},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == expected
