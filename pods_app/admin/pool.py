"""Pools: their pods, tokens and credentials."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from pods_app import pools, services
from pods_app.admin.slots import rows, tally, with_slots
from pods_app.api.visibility import visible_pools
from pods_app.models import ManagedPod, PodSlot, Pool, PoolCredential, PoolToken
from pods_app.registration import create_pool_token, revoke_pool_token
from pods_app.selectors import with_load
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.admin.base import SlipwayAdmin, list_url, object_url, operation_url
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.admin.project import CredentialForm
from tasks_app.formats import DASH, ago, badge, link
from tasks_app.models import Project
from tasks_app.permissions import Action, may
from tasks_app.services.credentials import check_credential

_PODS_MAX = 300


class PoolForm(OperationForm):
    name = forms.SlugField(max_length=60)
    kind = forms.ChoiceField(choices=PoolKind.choices)
    is_default = forms.BooleanField(
        label="The default pool", required=False, help_text="For workspaces without a pool."
    )
    projects = forms.ModelMultipleChoiceField(
        queryset=Project.objects.all(),
        required=False,
        help_text="The projects that may use it. None chosen: every project.",
    )
    slots_per_pod = forms.IntegerField(min_value=1, max_value=32, initial=3)
    min_pods = forms.IntegerField(
        label="Pods at least",
        min_value=0,
        max_value=1000,
        initial=1,
        help_text="How many the controller keeps running; not in a static pool.",
    )
    max_pods = forms.IntegerField(
        label="Pods at most",
        min_value=0,
        max_value=1000,
        initial=10,
        help_text="How many it adds when there is work; not in a static pool.",
    )
    spare_slots = forms.IntegerField(
        min_value=0,
        max_value=1000,
        initial=0,
        help_text="Free slots kept beyond what there is work for.",
    )
    scale_down_delay_seconds = forms.IntegerField(
        label="Scale-down delay in seconds",
        min_value=0,
        max_value=86400,
        initial=300,
        help_text="How long a pod must be idle before it is taken away.",
    )
    http_proxy = forms.CharField(label="HTTP_PROXY", required=False)
    https_proxy = forms.CharField(label="HTTPS_PROXY", required=False)
    no_proxy = forms.CharField(label="NO_PROXY", required=False)
    ca_bundle = forms.CharField(
        label="CA bundle",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="PEM certificates that its runs trust.",
    )
    pod_template = forms.CharField(
        required=False,
        max_length=1 << 16,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "font-mono"}),
        help_text="Of a Kubernetes pool: YAML with metadata and spec as in a PodTemplateSpec, "
        "merged into Slipway's own. Empty: as it comes.",
    )

    def fields_of_pool(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the pool's own fields from the form's."""
        proxy = {
            name: data[name.lower()]
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
            if data[name.lower()]
        }
        kept = {name: value for name, value in data.items() if not name.endswith("_proxy")}
        return {**kept, "proxy": proxy}


class Operates(Operation):
    """An operation of those who operate pools and agents."""

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.OPERATE))


class CreatePool(Operates):
    name, label, icon, tone = "create", "Add pool", "add", "primary"
    submit = "Create pool"
    text = "A set of pods that run the tasks of certain projects."
    form_class = PoolForm
    wide = True

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        pool = pools.create_pool(actor=actor, **PoolForm.fields_of_pool(PoolForm(), data))
        return Done(f"Created {pool.name}. Make a token and start agents next.", object_url(pool))


class ChangePool(Operates):
    name, label, icon = "settings", "Settings", "settings"
    title, submit, wide = "Settings of the pool", "Save", True
    form_class = PoolForm

    def initial(self, obj: Pool) -> dict[str, Any]:
        names = ["name", "kind", "is_default", "slots_per_pod", "min_pods", "max_pods"]
        names += ["spare_slots", "scale_down_delay_seconds", "ca_bundle", "pod_template"]
        return {
            **{name: getattr(obj, name) for name in names},
            "projects": list(obj.projects.all()),
            **{name.lower(): obj.proxy.get(name, "") for name in pools._PROXY},
        }

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        pools.update_pool(actor=actor, pool=obj, **PoolForm.fields_of_pool(PoolForm(), data))
        return Done("The settings are saved.")


class TokenForm(OperationForm):
    name = forms.CharField(max_length=100, help_text="For whom, for example the host's name.")
    days = forms.TypedChoiceField(
        label="Valid for",
        coerce=int,
        choices=[(1, "1 day"), (30, "30 days"), (365, "1 year"), (0, "no end")],
        initial=30,
    )


class CreatePoolToken(Operates):
    name, label, icon, tone = "create_token", "Make a token", "key", "primary"
    title, submit = "Make a pool token", "Make token"
    text = "With it agents register in this pool. It is shown once."
    form_class = TokenForm

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        lifetime = timedelta(days=data["days"]) if data["days"] else None
        row, token = create_pool_token(actor=actor, pool=obj, name=data["name"], lifetime=lifetime)
        return Done(f"Token “{row.name}” is made.", object_url(obj), secret=token)


class SetPoolCredential(Operates):
    name, label, icon = "set_credential", "Set a credential", "vpn_key"
    title, submit = "Set a credential for private modules or registries", "Save"
    text = "Every run in the pool gets it; one that exists for the host is replaced."
    form_class = CredentialForm

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        check_credential(data["kind"], data["host"], data["secret"], data["known_hosts"])
        row = services.set_pool_credential(actor=actor, pool=obj, **data)
        return Done(f"The credential for {row.host} is set.")


@admin.register(Pool)
class PoolAdmin(SlipwayAdmin):
    """Pools that serve a project the person sees."""

    page_template = "admin/slipway/pods/pool.html"
    create = CreatePool()
    operations = (CreatePoolToken(), SetPoolCredential(), ChangePool())
    empty_text = "A pool runs tasks. “Add” makes one; agents register in it with its token."
    list_display = ("title", "kind", "serves", "slots_word", "pods_word")
    sortable_by = ("title",)
    ordering = ("name",)
    refresh_ms = 3000

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        visible = visible_pools(request.user)
        rows = super().get_queryset(request).filter(pk__in=visible.values("pk"))
        return rows.prefetch_related("projects", "pods__slots")

    @admin.display(description="Pool", ordering="name")
    def title(self, obj: Pool) -> Any:
        return f"{obj.name} (default)" if obj.is_default else obj.name

    @admin.display(description="Serves")
    def serves(self, obj: Pool) -> str:
        return ", ".join(project.name for project in obj.projects.all()) or "every project"

    @admin.display(description="Slots")
    def slots_word(self, obj: Pool) -> str:
        online = [pod for pod in obj.pods.all() if pod.phase == PodPhase.ONLINE]
        count = tally(slot for pod in online for slot in pod.slots.all())
        return f"{count['running']} running, {count['reserved']} reserved, {count['idle']} idle"

    @admin.display(description="Pods")
    def pods_word(self, obj: Pool) -> Any:
        present = [pod for pod in obj.pods.all() if pod.phase != PodPhase.GONE]
        online = sum(pod.phase == PodPhase.ONLINE for pod in present)
        return link(list_url(ManagedPod, f"pool={obj.pk}"), f"{online} of {len(present)} online")

    def page_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        return Pool.objects.filter(pk__in=visible_pools(request.user).values("pk"))

    def subtitle(self, obj: Pool) -> str:
        return str(obj.get_kind_display())

    def page_context(self, request: HttpRequest, obj: Pool) -> dict[str, Any]:
        operates = may(self.actor(request), Action.OPERATE)
        shown = with_load(obj.pods.exclude(phase=PodPhase.GONE))
        pods = list(shown.prefetch_related(with_slots())[:_PODS_MAX])
        online = [pod for pod in pods if pod.phase == PodPhase.ONLINE]
        return {
            "pool": obj,
            "operates": operates,
            "rows": rows(pods, request.user),
            "empty": self._next_step(obj),
            "slots": tally(slot for pod in online for slot in pod.slots.all()),
            "slots_url": list_url(PodSlot, f"pool={obj.pk}"),
            "projects": list(obj.projects.all()),
            "proxy": pools.shown_proxy(obj),
            "tokens": self._tokens(obj) if operates else [],
            "credentials": [
                {"row": row, "url": operation_url(row, "delete")}
                for row in obj.credentials.defer("secret_ciphertext").select_related("created_by")
            ]
            if operates
            else [],
        }

    def _next_step(self, obj: Pool) -> str:
        if obj.trouble:
            return obj.trouble
        if obj.kind != PoolKind.STATIC:
            return (
                "No pod runs. Next step: start manage.py run_controller, which keeps them running."
            )
        return (
            "No agent registered. Next step: make a token, then start manage.py run_agent with it."
        )

    def _tokens(self, obj: Pool) -> list[dict[str, Any]]:
        now, found = timezone.now(), []
        live = obj.tokens.filter(revoked_at=None).select_related("created_by")
        for row in live.order_by("-created_at")[:20]:
            expired = row.expires_at is not None and row.expires_at < now
            if not expired:
                found.append({"row": row, "url": operation_url(row, "revoke")})
        return found


class RevokePoolToken(Operates):
    name, label, icon, tone = "revoke", "Revoke", "key_off", "danger"
    title, submit = "Revoke this pool token?", "Revoke"
    text = "Agents can no longer register with it; those that did go on."

    def availability(self, actor: Actor, obj: PoolToken) -> Availability:
        reason = "It is revoked already." if obj.revoked_at else ""
        return Availability(may(actor, Action.OPERATE), reason)

    def run(self, actor: Actor, obj: PoolToken, data: dict[str, Any]) -> Done:
        revoke_pool_token(actor=actor, token=obj)
        return Done(f"Token “{obj.name}” is revoked.", object_url(obj.pool))


@admin.register(PoolToken)
class PoolTokenAdmin(SlipwayAdmin):
    """Tokens of pools; only their hashes are stored."""

    view_action = Action.OPERATE
    operations = (RevokePoolToken(),)
    empty_text = "Tokens are made on the page of a pool."
    list_display = ("name", "pool", "state", "made", "ends")
    list_select_related = ("pool",)
    ordering = ("-created_at",)
    sortable_by = ()
    refresh_ms = 0

    @admin.display(description="State")
    def state(self, obj: PoolToken) -> Any:
        if obj.revoked_at:
            return badge("revoked", "quiet", "key_off")
        if obj.expires_at and obj.expires_at < timezone.now():
            return badge("expired", "quiet", "hourglass_disabled")
        return badge("valid", "good", "check")

    @admin.display(description="Made")
    def made(self, obj: PoolToken) -> Any:
        return ago(obj.created_at)

    @admin.display(description="Ends")
    def ends(self, obj: PoolToken) -> Any:
        return ago(obj.expires_at) if obj.expires_at else "never"

    def facts(self, request: HttpRequest, obj: PoolToken) -> list[tuple[str, Any]]:
        return [
            ("Name", obj.name),
            ("Pool", link(object_url(obj.pool), obj.pool.name)),
            ("State", self.state(obj)),
            ("Made", ago(obj.created_at)),
            ("By", obj.created_by.get_username() if obj.created_by else DASH),
            ("Ends", self.ends(obj)),
        ]


class DeletePoolCredential(Operates):
    name, label, icon, tone = "delete", "Delete", "delete", "danger"
    title, submit = "Delete this credential?", "Delete"
    text = "Runs from now on go without it."

    def run(self, actor: Actor, obj: PoolCredential, data: dict[str, Any]) -> Done:
        pool, host = obj.pool, obj.host
        pools.delete_pool_credential(actor=actor, credential=obj)
        return Done(f"The credential for {host} is deleted.", object_url(pool))


@admin.register(PoolCredential)
class PoolCredentialAdmin(SlipwayAdmin):
    """Credentials of pools; their secrets are never read here."""

    view_action = Action.OPERATE
    operations = (DeletePoolCredential(),)
    empty_text = "Credentials are set on the page of a pool."
    list_display = ("host", "kind", "pool", "username")
    list_select_related = ("pool",)
    sortable_by = ()
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[PoolCredential]:
        return super().get_queryset(request).defer("secret_ciphertext")

    def facts(self, request: HttpRequest, obj: PoolCredential) -> list[tuple[str, Any]]:
        return [
            ("Pool", link(object_url(obj.pool), obj.pool.name)),
            ("Kind", obj.get_kind_display()),
            ("Host", obj.host),
            ("User", obj.username or DASH),
            ("Secret", badge("hidden", "quiet", "visibility_off")),
            ("Set", ago(obj.created_at)),
        ]
