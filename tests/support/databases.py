"""Copies of the test's database, as an operator makes and restores them."""

from __future__ import annotations

from typing import cast

import psycopg
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg import sql


def copy_database(name: str) -> None:
    """Copy the test's database to one called ``name``; nobody else may be connected."""
    _run([_COPY.format(_copy(name), sql.Identifier(_own()))])


def restore_database(name: str) -> None:
    """Put a copy in the place of the test's database; the copy goes by this."""
    own = sql.Identifier(_own())
    _run(
        [
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(own),
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(_copy(name), own),
        ]
    )


_COPY = sql.SQL("CREATE DATABASE {} TEMPLATE {}")


def _own() -> str:
    name: str = connection.settings_dict["NAME"]
    return name


def _copy(name: str) -> sql.Identifier:
    """Several workers may have one of that name."""
    return sql.Identifier(f"{_own()}_{name}")


def _run(statements: list[sql.Composed]) -> None:
    """Run them in PostgreSQL's own database, with no connection of this process to ours."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold", "pool"):
        parameters.pop(name, None)
    connection.close()
    cast(DatabaseWrapper, connection).close_pool()
    with psycopg.connect(**{**parameters, "dbname": "postgres", "autocommit": True}) as other:
        for statement in statements:
            other.execute(statement)
