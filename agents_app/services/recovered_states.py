"""States that an agent saved of an apply which could not upload them, for people.

Most became the current version with the apply's end (`tasks_app/services/state_recovery.py`).
The others are evidence, and may be the only copy: they are read under the right to read states,
and a person may make one current.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import OuterRef, Q, QuerySet, Subquery

from agents_app.models import LeaseArtifact
from agents_app.schema import Artifact
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.models import StateVersion, Task
from tasks_app.permissions import Action, require
from tasks_app.services.state import record_download
from tasks_app.services.state_recovery import make_recovered_state_current


def recovered_states(task: Task) -> QuerySet[LeaseArtifact]:
    """Return what agents saved of a task's apply, newest first.

    ``serial`` is that of the version it became, None if it never became one.
    """
    same = StateVersion.objects.filter(
        # Made current by a person its serial may have been raised, and its digest is another.
        Q(digest=OuterRef("blob__digest"))
        | Q(task=OuterRef("lease__task"), created_by__isnull=False),
        workspace=OuterRef("lease__task__workspace"),
    )
    return (
        LeaseArtifact.objects.filter(lease__task=task, kind=Artifact.RECOVERED_STATE)
        .select_related("blob", "lease__task__workspace__project")
        .annotate(serial=Subquery(same.order_by("-serial").values("serial")[:1]))
        .order_by("-id")
    )


def open_recovered_state(*, actor: Actor, artifact: LeaseArtifact) -> Iterator[bytes]:
    """Return the document in pieces, and write down who read it.

    Raises:
        NotFound, NotPermitted: by role, as for every state.
    """
    task = artifact.lease.task
    require(actor, Action.READ_STATE, task)
    record_download(actor, task.workspace, "a recovered state", task=task)
    return blobs.read(artifact.blob)


def make_current(*, actor: Actor, artifact: LeaseArtifact, comment: str = "") -> StateVersion:
    """Make a saved state the current version of its workspace.

    Raises:
        As :func:`tasks_app.services.state_recovery.make_recovered_state_current`.
    """
    task = artifact.lease.task
    require(actor, Action.WRITE_STATE, task)
    return make_recovered_state_current(
        actor=actor, task=task, content=blobs.read_all(artifact.blob), comment=comment
    )
