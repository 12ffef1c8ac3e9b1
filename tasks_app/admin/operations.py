"""An operation: a button that opens a dialog and calls one service over POST.

It is shown if the role allows it and disabled, with the reason, if the state does not. Its
address answers GET with the form alone, which changes nothing, and POST by running the
service; a refusal of the service becomes an error of the form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.template.response import TemplateResponse

from tasks_app.actors import Actor
from tasks_app.exceptions import NotFound, SlipwayError

if TYPE_CHECKING:
    from tasks_app.admin.base import SlipwayAdmin

#: Set by the page's script: the answer is put into a dialog instead of being a page.
DIALOG_HEADER = "X-Slipway-Dialog"
_TEMPLATE = "admin/slipway/operation.html"
_CONTROLS = {
    forms.CheckboxInput: "sw-check",
    forms.CheckboxSelectMultiple: "sw-checks",
    forms.RadioSelect: "sw-checks",
}


def _control_class(widget: forms.Widget) -> str:
    return next((name for kind, name in _CONTROLS.items() if type(widget) is kind), "sw-input")


class OperationForm(forms.Form):
    """Base of the forms in dialogs; puts the page's own classes on its controls."""

    required_css_class = "sw-required"
    use_required_attribute = False
    #: Shown above the buttons: what the form would do, for one that is not submitted yet.
    preview: Any = ""

    def __init__(self, *args: Any, obj: Any = None, actor: Actor | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.obj, self.actor = obj, actor
        self.prepare()
        for field in self.fields.values():
            field.widget.attrs.setdefault("class", _control_class(field.widget))

    def prepare(self) -> None:
        """Fill choices that depend on the object or the actor."""


@dataclass(frozen=True)
class Availability:
    """Whether the role allows an operation, and why the state does not, if so."""

    shown: bool
    reason: str = ""


@dataclass(frozen=True)
class Done:
    """What a person is told afterwards; ``secret`` is shown this once."""

    message: str
    location: str = ""
    secret: str = ""


class Operation:
    """One button with its dialog; subclasses say what it is and what it does."""

    name: ClassVar[str]
    label: ClassVar[str]
    icon: ClassVar[str] = "edit"
    tone: ClassVar[str] = "plain"  # primary, plain, danger
    title: ClassVar[str] = ""
    text: ClassVar[str] = ""
    submit: ClassVar[str] = ""
    form_class: ClassVar[type[OperationForm]] = OperationForm
    template: ClassVar[str] = ""  # shown above the form, with `context`
    wide: ClassVar[bool] = False
    #: Buttons of rows (a variable, a token) are drawn by their own panel.
    in_header: ClassVar[bool] = True

    def availability(self, actor: Actor, obj: Any) -> Availability:
        """Return whether the button is shown and can be pressed."""
        raise NotImplementedError

    def heading(self, obj: Any) -> str:
        """Return what stands above the form."""
        return self.title or self.label

    def initial(self, obj: Any) -> dict[str, Any]:
        """Return the form's first values."""
        return {}

    def context(self, actor: Actor, obj: Any) -> dict[str, Any]:
        """Return what ``template`` shows."""
        return {}

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        """Call the service.

        Raises:
            SlipwayError: becomes an error of the form.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Button:
    """An operation as a page shows it."""

    operation: Operation
    url: str
    reason: str

    @property
    def enabled(self) -> bool:
        return not self.reason


def operation_response(
    admin: SlipwayAdmin, request: HttpRequest, operation: Operation, obj: Any, back: str
) -> HttpResponse:
    """Answer GET with the form and POST by running the operation.

    Raises:
        NotFound: the actor's role does not allow it.
    """
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    actor = admin.actor(request)
    available = operation.availability(actor, obj)
    if not available.shown:
        raise NotFound()
    status = 200
    if request.method == "POST":
        form = operation.form_class(request.POST, request.FILES, obj=obj, actor=actor)
        if form.is_valid():
            try:
                done = operation.run(actor, obj, form.cleaned_data)
            except SlipwayError as error:
                form.add_error(error.field if error.field in form.fields else None, error.detail)
                status = error.status
            else:
                return _done(admin, request, operation, obj, done, back)
        else:
            status = 422 if form.errors else 200  # a preview is no error
    else:
        form = operation.form_class(initial=operation.initial(obj), obj=obj, actor=actor)
    return _page(admin, request, operation, obj, back, status, form=form, reason=available.reason)


def _done(
    admin: SlipwayAdmin, request: HttpRequest, operation: Operation, obj: Any, done: Done, back: str
) -> HttpResponse:
    if done.secret:
        response: HttpResponse = _page(
            admin, request, operation, obj, done.location or back, 200, done=done
        )
        response.headers["Cache-Control"] = "no-store"
        return response
    if DIALOG_HEADER in request.headers:
        # The script shows the message, here or on the page it goes to.
        return JsonResponse({"message": done.message, "location": done.location})
    messages.success(request, done.message)
    return HttpResponse(status=303, headers={"Location": done.location or back})


def _page(
    admin: SlipwayAdmin,
    request: HttpRequest,
    operation: Operation,
    obj: Any,
    back: str,
    status: int,
    **context: Any,
) -> TemplateResponse:
    in_dialog = DIALOG_HEADER in request.headers
    layout = "admin/slipway/fragment.html" if in_dialog else "admin/base_site.html"
    surroundings = {} if in_dialog else admin.admin_site.each_context(request)
    return TemplateResponse(
        request,
        _TEMPLATE,
        {
            **surroundings,
            "opts": admin.opts,
            "title": operation.heading(obj),
            "layout": layout,
            "operation": operation,
            "in_dialog": in_dialog,
            "action": request.get_full_path(),
            "back": back,
            "object": obj,
            **operation.context(admin.actor(request), obj),
            **context,
        },
        status=status,
    )
