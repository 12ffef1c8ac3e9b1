"""Liveness and readiness, without saying more than that to strangers."""

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse


def livez(request: HttpRequest) -> HttpResponse:
    """The process answers. No database: an outage of it must not restart the web processes."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers and every migration is applied."""
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return HttpResponse("the database does not answer\n", "text/plain", 503)
    if waiting:
        return HttpResponse("migrations are not applied\n", "text/plain", 503)
    return HttpResponse("ok\n", content_type="text/plain")
