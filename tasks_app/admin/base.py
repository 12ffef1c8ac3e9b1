"""The one base class of the admin's models.

Rows are shown by role, only those of visible projects, and changed by operations alone: there
is no add, change or delete form unless a subclass says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from tasks_app import registry
from tasks_app.actors import Actor
from tasks_app.admin import hooks
from tasks_app.admin.operations import Button, Operation, operation_response
from tasks_app.exceptions import NotFound, NotPermitted
from tasks_app.permissions import Action, may, visible_projects

#: Set by the page's script when it refreshes the parts of a page in place.
PARTS_HEADER = "X-Slipway-Parts"
COUNT_MAX = 10_000


class CappedPaginator(Paginator):
    """Counts no further than ``COUNT_MAX`` rows: a filter finds the rest."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return rows.order_by().values("pk")[:COUNT_MAX].count()


class SlipwayAdmin(ModelAdmin):
    """A model whose rows are shown by role and changed only by operations."""

    #: Path from the model to its project, for example ``workspace__project``; "" for what
    #: belongs to the whole installation, which everybody with a role sees.
    project_path: ClassVar[str] = ""
    #: What a role must allow to see these rows at all.
    view_action: ClassVar[Action] = Action.VIEW
    page_template: ClassVar[str] = "admin/slipway/object.html"
    operations: ClassVar[Sequence[Operation]] = ()
    #: The operation behind "Add".
    create: ClassVar[Operation | None] = None
    #: Milliseconds between refreshes of a page's parts; 0 never.
    refresh_ms: ClassVar[int] = 5000
    #: What to do when the list is empty.
    empty_text: ClassVar[str] = ""

    actions: Any = None
    paginator: Any = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    list_filter_submit = True
    list_filter_sheet = True
    compressed_fields = True

    # --- who may see what ------------------------------------------------------------------

    def actor(self, request: HttpRequest) -> Actor:
        """Return the person behind the request."""
        return Actor.person(request.user)  # type: ignore[arg-type]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_cached(request, self.view_action)

    def has_add_permission(self, request: HttpRequest) -> bool:
        if self.create is None:
            return False
        return self.create.availability(self.actor(request), None).shown

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        user: Any = request.user
        if self.project_path and not user.is_superuser:
            rows = rows.filter(**{f"{self.project_path}__in": visible_ids(request)})
        return rows

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        return (*super().get_list_filter(request), *hooks.list_filters(self.opts.model_name or ""))

    def visible(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row, or raise Http404 if the person may not know of it."""
        try:
            return self.page_queryset(request).get(pk=object_id)
        except (self.model.DoesNotExist, ValidationError, ValueError):
            raise Http404(f"There is no such {self.opts.verbose_name}.") from None

    def page_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows with what their page needs."""
        return self.get_queryset(request)

    # --- pages -------------------------------------------------------------------------------

    def page_url(self, obj: Model) -> str:
        """Return the address of a row's page."""
        return object_url(obj)

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        """Return what the plain object page lists: names and values."""
        return []

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the page's own template shows."""
        return {}

    def subtitle(self, obj: Any) -> str:
        return ""

    def every_ms(self, obj: Any) -> int:
        """Return the time between refreshes of this page."""
        return self.refresh_ms

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the row's page; nothing is changed here."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise Http404
        obj = self.visible(request, object_id)
        in_parts = PARTS_HEADER in request.headers
        surroundings = {} if in_parts else self.admin_site.each_context(request)
        context = {
            **surroundings,
            "layout": "admin/slipway/fragment.html" if in_parts else "admin/base_site.html",
            "opts": self.opts,
            "original": obj,
            "object": obj,
            "title": str(obj),
            "subtitle": self.subtitle(obj),
            "buttons": self.buttons(request, obj),
            "facts": self.facts(request, obj),
            "panels": rendered_panels(self.opts.model_name or "", obj, request.user),
            "every_ms": self.every_ms(obj),
            **self.page_context(request, obj),
        }
        return TemplateResponse(request, self.page_template, context)

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if self.create is None:
            raise Http404
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return self._respond(request, self.create, None, back)

    # --- operations -----------------------------------------------------------------------------

    def all_operations(self) -> list[Operation]:
        return [*self.operations, *hooks.operations(self.opts.model_name or "")]

    def buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        """Return the page's buttons, as the person's role and the row's state allow."""
        actor, found = self.actor(request), []
        for operation in self.all_operations():
            if operation.in_header:
                available = operation.availability(actor, obj)
                if available.shown:
                    url = operation_url(obj, operation.name)
                    found.append(Button(operation, url, available.reason))
        return found

    def operation_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Show an operation's form, or run it."""
        if not self.has_view_permission(request):
            raise Http404
        operation = next((one for one in self.all_operations() if one.name == name), None)
        if operation is None:
            raise Http404
        obj = self.visible(request, object_id)
        return self._respond(request, operation, obj, self.page_url(obj))

    def _respond(
        self, request: HttpRequest, operation: Operation, obj: Any, back: str
    ) -> HttpResponse:
        try:
            return operation_response(self, request, operation, obj, back)
        except (NotFound, NotPermitted) as error:
            raise Http404(error.detail) from None

    def page_urls(self) -> list[tuple[str, str, Any]]:
        """Return further addresses below a row: (path, name, view)."""
        return []

    def get_urls(self) -> list[URLPattern]:
        base = f"{self.opts.app_label}_{self.opts.model_name}"
        rows = [("do/<slug:name>/", "operate", self.operation_view), *self.page_urls()]
        return [
            path(
                f"<str:object_id>/{below}", self.admin_site.admin_view(view), name=f"{base}_{name}"
            )
            for below, name, view in rows
        ] + super().get_urls()


def may_cached(request: HttpRequest, action: Action) -> bool:
    """Ask once per request and action: every model of the sidebar asks the same."""
    answers: dict[Action, bool] = request.__dict__.setdefault("_slipway_may", {})
    if action not in answers:
        user: Any = request.user
        answers[action] = may(user, action)
    return answers[action]


def visible_ids(request: HttpRequest) -> list[UUID]:
    """Return the ids of the projects the person sees, asked once per request.

    As values, not as a subquery: the planner then reads long tables by their newest rows.
    """
    if "_slipway_projects" not in request.__dict__:
        found = visible_projects(request.user).values_list("pk", flat=True)
        request.__dict__["_slipway_projects"] = list(found)
    ids: list[UUID] = request.__dict__["_slipway_projects"]
    return ids


def rendered_panels(model: str, obj: Any, user: Any = None) -> list[dict[str, str]]:
    """Return title and HTML of the panels that upper apps add to a page for its reader.

    Without a reader those that ask who it is are left out.
    """
    return [
        {"title": panel.title, "html": render_to_string(panel.template, panel.context(obj))}
        for panel in registry.panels(model)
        if panel.shown(user, obj)
    ]


def object_url(obj: Model) -> str:
    """Return the address of an object's page."""
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])


def list_url(model: type[Model], query: str = "") -> str:
    """Return the address of a model's list, filtered by ``query``."""
    base = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{base}?{query}" if query else base


def operation_url(obj: Model, name: str) -> str:
    """Return the address of an operation on an object."""
    base = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_operate"
    return reverse(base, args=[obj.pk, name])


def below_url(obj: Model, name: str, *args: str | UUID) -> str:
    """Return one of the further addresses below an object."""
    return reverse(
        f"admin:{obj._meta.app_label}_{obj._meta.model_name}_{name}", args=[obj.pk, *args]
    )
