import json
import os
import sys
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction
from knox.models import AuthToken

from pods_app.services import default_pool
from pods_app.states import PoolKind
from tasks_app.services.workspaces import default_project

#: Where the platform's launcher puts the password; never on a command line, where all see it.
PASSWORD_VARIABLE = "SLIPWAY_ADMIN_PASSWORD"
TOKEN_LIFE = timedelta(days=1)
#: A "pod" is a process on this machine, which is somebody's own.
_LAPTOP_PODS = 2


class Command(BaseCommand):
    help = (
        f"Make the embedded platform usable: a superuser admin with the password in "
        f"{PASSWORD_VARIABLE}, the default project, a default pool of local processes, and an API "
        "token, printed as JSON. May be repeated."
    )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get(PASSWORD_VARIABLE)
        if not password:
            self.stderr.write(f"Set {PASSWORD_VARIABLE}.")
            sys.exit(2)
        user, made = User.objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True}
        )
        if made:
            user.set_password(password)
            user.save(update_fields=["password"])
        default_project()
        pool = default_pool()
        if pool.kind == PoolKind.STATIC and not pool.pods.exists():
            pool.kind = PoolKind.LOCAL
            pool.max_pods = _LAPTOP_PODS
            pool.save(update_fields=["kind", "max_pods"])
        _, token = AuthToken.objects.create(user=user, expiry=TOKEN_LIFE)
        self.stdout.write(json.dumps({"username": user.username, "token": token}))
