from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ConfigAppConfig(AppConfig):
    """Wires the three apps: checks at start and the schedules of django-q2."""

    name = "config"
    verbose_name = "Slipway"

    def ready(self) -> None:
        from config import checks  # noqa: F401

        post_migrate.connect(_sync_schedules, sender=self)


def _sync_schedules(**kwargs: Any) -> None:
    from config.schedules import sync_schedules

    sync_schedules()
