"""How statuses, times, sizes and durations look everywhere: icon, word and colour."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from tasks_app.states import Status, WarmupStatus

#: Icon (of Material Symbols) and tone of every status; a tone is a colour with its contrast pair.
STATUS_LOOKS: dict[str, tuple[str, str]] = {
    Status.PENDING: ("schedule", "quiet"),
    Status.PLANNING: ("sync", "busy"),
    Status.APPLY_PENDING: ("front_hand", "ask"),
    Status.CONFIRMED: ("thumb_up", "busy"),
    Status.APPLYING: ("bolt", "busy"),
    Status.APPLY_UNKNOWN: ("help", "bad"),
    Status.SUCCESS: ("check", "good"),
    Status.PLANNED_AND_FINISHED: ("check", "good"),
    Status.APPLIED: ("done_all", "good"),
    Status.DISCARDED: ("block", "quiet"),
    Status.CANCELLED: ("cancel", "quiet"),
    Status.FAILED: ("error", "bad"),
    Status.INTERRUPTED: ("power_off", "bad"),
}
#: Of what lies ready for an apply; a failure stops nobody, it only costs time.
WARMUP_LOOKS: dict[str, tuple[str, str]] = {
    WarmupStatus.NONE: ("mode_cool", "quiet"),
    WarmupStatus.WARMING: ("local_fire_department", "busy"),
    WarmupStatus.READY: ("local_fire_department", "good"),
    WarmupStatus.EXPIRED: ("timer_off", "ask"),
    WarmupStatus.FAILED: ("warning", "ask"),
}
#: Status whose icon turns: something runs now.
_TURNING = {Status.PLANNING}
DASH = mark_safe('<span class="sw-subtle">—</span>')


def icon(name: str, turning: bool = False) -> SafeString:
    """Return a decorative icon; the words beside it carry the meaning."""
    return format_html(
        '<span class="material-symbols-outlined sw-icon{}" aria-hidden="true">{}</span>',
        " sw-turning" if turning else "",
        name,
    )


def badge(text: Any, tone: str, symbol: str, turning: bool = False) -> SafeString:
    """Return a badge: icon, word and colour."""
    return format_html(
        '<span class="sw-badge sw-{}">{}<span>{}</span></span>', tone, icon(symbol, turning), text
    )


def status_badge(status: str) -> SafeString:
    """Return the badge of a task's status."""
    symbol, tone = STATUS_LOOKS[status]
    return badge(Status(status).label, tone, symbol, status in _TURNING)


def warmup_badge(status: str) -> SafeString:
    """Return the badge of a task's warm-up."""
    symbol, tone = WARMUP_LOOKS[status]
    label = WarmupStatus(status).label
    return badge(label if status == WarmupStatus.NONE else f"Warm-up {label.lower()}", tone, symbol)


def seconds_words(seconds: float) -> str:
    """Return a length of time as its two largest units at most: ``3 min 20 s``."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    if whole < 86_400:
        minutes = whole % 3600 // 60
        return f"{whole // 3600} h" + (f" {minutes} min" if minutes else "")
    hours = whole % 86_400 // 3600
    return f"{whole // 86_400} d" + (f" {hours} h" if hours and whole < 10 * 86_400 else "")


def milliseconds_words(value: float) -> str:
    """Return a duration of a step: ``58 ms``, ``1.3 s``, ``2 min 5 s``."""
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else seconds_words(value / 1000)


def ago(moment: datetime | None, tone: str = "") -> SafeString:
    """Return a relative time with the exact one on hover; the page's script keeps it fresh.

    Args:
        tone: ``ask`` or ``bad`` if it is too long ago.
    """
    if moment is None:
        return DASH
    away = (timezone.now() - moment).total_seconds()
    words = f"{seconds_words(away)} ago" if away >= 0 else f"in {seconds_words(-away)}"
    return format_html(
        '<time class="sw-time{}" datetime="{}" title="{}" data-ago>{}</time>',
        f" sw-text-{tone}" if tone else "",
        moment.isoformat(),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        words,
    )


def between(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took, "" when it did not end."""
    return seconds_words((end - start).total_seconds()) if start and end else ""


def byte_words(size: int | None) -> str:
    """Return a size in binary units."""
    if size is None:
        return "—"
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def link(url: str, text: Any) -> SafeString:
    """Return a link in the page's style."""
    return format_html('<a class="sw-link" href="{}">{}</a>', url, text)


def code(text: Any) -> SafeString:
    """Return a text in the fixed-width type."""
    return format_html("<code>{}</code>", text) if text else DASH


def lines(rows: Iterable[Any]) -> SafeString:
    """Return one row below the other."""
    return format_html_join("", "<div>{}</div>", ((conditional_escape(row),) for row in rows))


def counts(add: int, change: int, destroy: int, moved: int = 0) -> SafeString:
    """Return a plan's +, ~ and −, each with a word for those who cannot see colours."""
    parts = [
        ("add", f"+{add}", "to add", add),
        ("change", f"~{change}", "to change", change),
        ("destroy", f"−{destroy}", "to destroy", destroy),
    ]
    if moved:
        parts.append(("import", f"↓{moved}", "to import", moved))
    return format_html(
        '<span class="sw-counts">{}</span>',
        format_html_join(
            "",
            '<span class="sw-count sw-count-{}{}" title="{} {}">{}</span>',
            (
                (kind, "" if value else " sw-zero", value, words, text)
                for kind, text, words, value in parts
            ),
        ),
    )


def until(moment: datetime | None, now: datetime | None = None) -> timedelta:
    """Return the time left, zero when it is over."""
    left = (moment - (now or timezone.now())) if moment else timedelta()
    return max(left, timedelta())


def actor_words(actor: str) -> str:
    """Return who did something as people say it: ``user:ada`` is ada."""
    kind, _, name = actor.partition(":")
    if kind == "user":
        return name
    return f"agent {name[:8]}" if kind == "agent" else f"Slipway ({name})"


#: What of an event's data says what it is about, in this order.
_NAMING = ("key", "name", "pod", "pool", "host", "group", "role", "project", "number", "serial")


def event_words(event: Any) -> str:
    """Return why something happened, else what it was about."""
    if event.cause:
        return str(event.cause)
    return " ".join(str(event.data[name]) for name in _NAMING if event.data.get(name))
