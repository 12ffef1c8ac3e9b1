"""Pages that stay stable while rows are added."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """By id, which is a UUIDv7 or a serial number: newest first."""

    ordering = "-pk"
    page_size_query_param = "page_size"
    max_page_size = 200
