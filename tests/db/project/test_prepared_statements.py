"""Statements are prepared, unless a pooler stands between: ADR 14."""

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from pods_app.models import Lease
from pods_app.wishes import wishes
from tests.support.factories import make_pod, make_pool

ONE = "SELECT statement FROM pg_prepared_statements"
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
