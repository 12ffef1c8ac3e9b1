"""The answer of every address below the API that there is not."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.api.base import AlwaysFirst
from tasks_app.exceptions import NotFound


@extend_schema(exclude=True)
class UnknownAddress(APIView):
    """404 as a problem document, with any method and for anybody."""

    authentication_classes = []
    permission_classes = []
    content_negotiation_class = AlwaysFirst

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse before a method is looked for.

        Raises:
            NotFound: always.
        """
        end = "" if request.path.endswith("/") else "; addresses end with a slash"
        raise NotFound(f"There is no address {request.path} in this API{end}.")

    def get(self, request: Request) -> Response:
        """Never reached: `initial` refuses."""
        raise NotImplementedError
