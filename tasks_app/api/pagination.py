"""Pages that stay stable while rows are added."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound, ParseError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class NewestFirst(CursorPagination):
    """By id, which is a UUIDv7: newest first."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 200

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor of the request.

        Raises:
            ParseError: it was not made by this API.
        """
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                self.check_position(str(cursor.position))
        except (NotFound, ValueError) as error:
            raise ParseError("This cursor was not made by this list; start without one.") from error
        return cursor

    def get_page_size(self, request: Request) -> int:
        """Return how many rows were asked for.

        Raises:
            ParseError: not a number from 1 to ``max_page_size``.
        """
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return int(self.page_size or self.max_page_size)
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if not 1 <= number <= self.max_page_size:
            raise ParseError(f"page_size must be a number from 1 to {self.max_page_size}.")
        return number

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe the parameters, with the limits of the page size."""
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            if parameter["name"] == self.page_size_query_param:
                parameter["schema"] |= {"minimum": 1, "maximum": self.max_page_size}
        return parameters

    def check_position(self, position: str) -> None:
        """Raise ValueError for a position that no row can have."""
        UUID(position)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page: its rows and the addresses of its neighbours."""
        described: dict[str, Any] = super().get_paginated_response_schema(schema)
        for name in ("next", "previous"):
            described["properties"][name].pop("example", None)
        described["required"] = ["results", "next", "previous"]
        return described


class ByName(NewestFirst):
    """By name, for what people look up rather than follow."""

    ordering = "name"

    def check_position(self, position: str) -> None:
        """Any text is a position."""
        if "\0" in position:
            raise ValueError("no name has NUL")


class ByNumber(NewestFirst):
    """By id where that is a serial number."""

    def check_position(self, position: str) -> None:
        """Raise ValueError for what is no number that a row can have."""
        if not 0 <= int(position) < 2**63:
            raise ValueError("no such id")
