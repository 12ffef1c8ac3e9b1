"""Filters and tags of the admin's own pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils.safestring import SafeString

from tasks_app import formats

register = template.Library()

register.filter("status_badge", formats.status_badge)
register.filter("warmup_badge", formats.warmup_badge)
register.filter("bytes", formats.byte_words)
register.filter("milliseconds", formats.milliseconds_words)
register.filter("code", formats.code)
register.filter("actor", formats.actor_words)
register.filter("event_words", formats.event_words)


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """A relative time with the exact one on hover."""
    return formats.ago(moment)


@register.filter
def icon(name: str) -> SafeString:
    """A decorative icon."""
    return formats.icon(name)


@register.simple_tag
def badge(text: Any, tone: str, symbol: str) -> SafeString:
    """Icon, word and colour."""
    return formats.badge(text, tone, symbol)


@register.simple_tag
def counts(plan: Any) -> SafeString:
    """A plan's +, ~ and −."""
    return formats.counts(plan.to_add, plan.to_change, plan.to_destroy, plan.to_import)
