"""Users, groups, personal tokens and django-q2's rows, in the look of everything else."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django_q.models import Failure, OrmQ, Schedule, Success
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tasks_app.actors import Actor
from tasks_app.admin.base import SlipwayAdmin, list_url
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.formats import DASH, ago, badge, code
from tasks_app.permissions import Action
from tasks_app.services import tokens

for _model in (User, Group, AuthToken, Schedule, Success, Failure, OrmQ):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


class OnlySuperusers:
    """Users and groups decide who may do anything, so only superusers see and change them."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(User)
class UserAdmin(OnlySuperusers, StockUserAdmin, ModelAdmin):
    """Django's own, with Unfold's forms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_filter_submit = False


@admin.register(Group)
class GroupAdmin(OnlySuperusers, StockGroupAdmin, ModelAdmin):
    """Roles of a group are given on the page of a project, or under Roles."""


class TokenForm(OperationForm):
    hours = forms.TypedChoiceField(
        label="Valid for",
        coerce=int,
        choices=[
            (8, "8 hours"),
            (24, "1 day"),
            (168, "7 days"),
            (720, "30 days"),
            (2160, "90 days"),
        ],
        initial=24,
    )


class CreateToken(Operation):
    name, label, icon, tone = "create", "Make a token", "key", "primary"
    title, submit = "Make an API token of your own", "Make token"
    text = "It may do what you may do. Send it as “Authorization: Token …”."
    form_class = TokenForm

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(actor.user is not None)

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        row, token = tokens.create_token(actor=actor, hours=data["hours"])
        return Done(f"Token {row.token_key} is made.", list_url(AuthToken), secret=token)


class RevokeToken(Operation):
    name, label, icon, tone = "revoke", "Revoke", "key_off", "danger"
    title, submit = "Revoke this token?", "Revoke"
    text = "Requests with it are refused from now on."

    def availability(self, actor: Actor, obj: AuthToken) -> Availability:
        return Availability(actor.user is not None and obj.user_id == actor.user.pk)

    def run(self, actor: Actor, obj: AuthToken, data: dict[str, Any]) -> Done:
        tokens.revoke_token(actor=actor, token=obj)
        return Done(f"Token {obj.token_key} is revoked.", list_url(AuthToken))


@admin.register(AuthToken)
class AuthTokenAdmin(SlipwayAdmin):
    """A person's own tokens."""

    create = CreateToken()
    operations = (RevokeToken(),)
    empty_text = "You have no token. “Add” makes one for scripts and the API."
    list_display = ("title", "state", "made", "ends")
    ordering = ("-created",)
    sortable_by = ()
    refresh_ms = 0

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(user=request.user).defer("digest")

    @admin.display(description="Token")
    def title(self, obj: AuthToken) -> Any:
        return code(f"{obj.token_key}…")

    @admin.display(description="State")
    def state(self, obj: AuthToken) -> Any:
        from django.utils import timezone

        if obj.expiry and obj.expiry < timezone.now():
            return badge("expired", "quiet", "hourglass_disabled")
        return badge("valid", "good", "check")

    @admin.display(description="Made")
    def made(self, obj: AuthToken) -> Any:
        return ago(obj.created)

    @admin.display(description="Ends")
    def ends(self, obj: AuthToken) -> Any:
        return ago(obj.expiry) if obj.expiry else "never"

    def facts(self, request: HttpRequest, obj: AuthToken) -> list[tuple[str, Any]]:
        return [
            ("Token", self.title(obj)),
            ("State", self.state(obj)),
            ("Made", ago(obj.created)),
            ("Ends", self.ends(obj)),
        ]


class QueueAdmin(SlipwayAdmin):
    """A model of django-q2: read-only, for operators."""

    view_action = Action.OPERATE
    sortable_by = ()
    refresh_ms = 0


@admin.register(Schedule)
class ScheduleAdmin(QueueAdmin):
    """The periodic jobs; `config/schedules.py` decides them."""

    empty_text = "`manage.py migrate` makes the schedules."
    list_display = ("name", "function", "every", "next_run_word")
    ordering = ("name",)

    @admin.display(description="Function")
    def function(self, obj: Schedule) -> Any:
        return code(obj.func)

    @admin.display(description="Every")
    def every(self, obj: Schedule) -> str:
        return f"{obj.minutes} min" if obj.minutes else str(obj.get_schedule_type_display())

    @admin.display(description="Next run")
    def next_run_word(self, obj: Schedule) -> Any:
        return ago(obj.next_run)

    def facts(self, request: HttpRequest, obj: Schedule) -> list[tuple[str, Any]]:
        return [
            ("Name", obj.name),
            ("Function", code(obj.func)),
            ("Every", self.every(obj)),
            ("Next run", ago(obj.next_run)),
        ]


class EndedJobAdmin(QueueAdmin):
    """A job that ended."""

    list_display = ("name", "function", "started_word", "took")
    ordering = ("-stopped",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("args", "kwargs", "result")

    @admin.display(description="Function")
    def function(self, obj: Any) -> Any:
        return code(obj.func)

    @admin.display(description="Started")
    def started_word(self, obj: Any) -> Any:
        return ago(obj.started)

    @admin.display(description="Took")
    def took(self, obj: Any) -> str:
        return f"{(obj.stopped - obj.started).total_seconds():.2f} s"

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        return [
            ("Name", obj.name),
            ("Function", code(obj.func)),
            ("Started", ago(obj.started)),
            ("Took", self.took(obj)),
            ("Attempts", obj.attempt_count),
            ("Result", code(str(obj.result)[:4000]) if obj.result is not None else DASH),
        ]


@admin.register(Success)
class SuccessAdmin(EndedJobAdmin):
    """Jobs that ended well."""

    empty_text = "No job has run yet. Is `manage.py qcluster` running?"


@admin.register(Failure)
class FailureAdmin(EndedJobAdmin):
    """Jobs that failed, with what they said."""

    empty_text = "No job has failed."
