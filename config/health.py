"""Liveness and readiness, saying no more than that to strangers."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from agents_app.hub import hub


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """The process answers. No database: its outage must not restart the web processes."""
    return _answer("ok", 200)


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers, every migration is applied, wakes are heard."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return _answer("the database does not answer", 503)
    if missing:
        return _answer("migrations are not applied: run manage.py migrate", 503)
    hub().start()
    if not hub().listening.wait(1.0):
        return _answer("not listening for wakes yet", 503)
    return _answer("ok", 200)


def _answer(text: str, status: int) -> HttpResponse:
    response = HttpResponse(f"{text}\n", content_type="text/plain", status=status)
    response.headers["Cache-Control"] = "no-store"
    return response
