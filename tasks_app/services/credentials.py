"""Credentials of projects for private modules and registries. Secrets are write-only."""

from __future__ import annotations

import re

from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tasks_app.keyring import keyring
from tasks_app.models import Project, ProjectCredential
from tasks_app.permissions import Action, require
from tasks_app.redaction import SECRET_LENGTH_MIN
from tasks_app.signals import given_changed
from tasks_app.transitions import record

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")
_SECRET_MAX = 16 * 1024
Kind = ProjectCredential.Kind


def check_credential(
    kind: str, host: str, secret: str, known_hosts: str, username: str = ""
) -> None:
    """Refuse what cannot work.

    Raises:
        InvalidInput: names the field.
    """
    if kind not in Kind.values:
        raise InvalidInput(f"Use one of {', '.join(Kind.values)}.", field="kind")
    if not _HOST.fullmatch(host):
        raise InvalidInput("Write a host name such as git.example.com.", field="host")
    if len(secret.strip()) < SECRET_LENGTH_MIN:
        raise InvalidInput(f"At least {SECRET_LENGTH_MIN} characters.", field="secret")
    if len(secret) > _SECRET_MAX or "\0" in secret:
        raise InvalidInput(f"At most {_SECRET_MAX} characters, without NUL.", field="secret")
    if kind != Kind.SSH_KEY and not secret.isprintable():
        raise InvalidInput("A token has one line, without control characters.", field="secret")
    if not username.isprintable() or ":" in username:
        raise InvalidInput("Without colons and control characters.", field="username")
    if kind == Kind.SSH_KEY and not known_hosts.strip():
        raise InvalidInput(
            "Give the host's known_hosts lines (ssh-keyscan), so that nobody can pose as it.",
            field="known_hosts",
        )


def set_credential(
    *,
    actor: Actor,
    project: Project,
    kind: str,
    host: str,
    secret: str,
    username: str = "",
    known_hosts: str = "",
) -> ProjectCredential:
    """Store or replace a project's credential for a host.

    Raises:
        NotFound, NotPermitted, InvalidInput.
    """
    require(actor, Action.CHANGE_PROJECT, project)
    check_credential(kind, host, secret, known_hosts, username)
    fresh = ProjectCredential(project=project, kind=kind, host=host)
    keyring().encrypt_row(fresh, secret.encode())
    with transaction.atomic():
        row, _ = ProjectCredential.objects.update_or_create(
            project=project,
            kind=kind,
            host=host,
            defaults={
                "username": username,
                "known_hosts": known_hosts,
                "secret_ciphertext": fresh.secret_ciphertext,
                "key_id": fresh.key_id,
                "created_by": actor.user,
            },
        )
        record(
            "project.credential_set",
            actor=actor,
            data={"project": project.name, "kind": kind, "host": host},
        )
        given_changed.send(sender=ProjectCredential)
    return row


def delete_credential(*, actor: Actor, credential: ProjectCredential) -> None:
    """Remove a credential.

    Raises:
        NotFound, NotPermitted.
    """
    require(actor, Action.CHANGE_PROJECT, credential.project)
    with transaction.atomic():
        record(
            "project.credential_deleted",
            actor=actor,
            data={"project": credential.project.name, "host": credential.host},
        )
        credential.delete()
        given_changed.send(sender=ProjectCredential)


def project_credentials(project: Project) -> list[tuple[ProjectCredential, str]]:
    """Return a project's credentials with their secrets, for a run."""
    ring = keyring()
    return [(row, ring.decrypt_row(row).decode()) for row in project.credentials.all()]
