from typing import Any

from django.apps import AppConfig, apps
from django.db import connections
from django.db.models.signals import post_migrate


class ConfigAppConfig(AppConfig):
    """Wires the three apps: the checks at start and the schedules of django-q2."""

    name = "config"
    verbose_name = "Slipway"

    def ready(self) -> None:
        from config import checks, forks  # noqa: F401  the checks register themselves

        forks.install()
        # Sent only for apps with models, hence not with this one as the sender.
        post_migrate.connect(_sync_schedules, sender=apps.get_app_config("django_q"))


def _sync_schedules(using: str, **kwargs: Any) -> None:
    from django_q.models import Schedule

    from config.schedules import sync_schedules

    # After `migrate APP zero` django-q2's own table may not be there.
    if Schedule._meta.db_table in connections[using].introspection.table_names():
        sync_schedules()
