"""What keeps tasks from starting within their workspaces, for many tasks at once.

`selectors.blocked_by` answers the same for one task; a test holds both to the same sentences.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from tasks_app.models import Task, Workspace
from tasks_app.states import FINAL, OCCUPYING, Status, TaskType


@dataclass(frozen=True)
class Blocking:
    """What was in the way in some workspaces when it was read."""

    locked: dict[UUID, str]
    interrupted: dict[UUID, int]  # the number of the first interrupted apply
    # Of each workspace's plan_and_apply tasks that are not over: the ids in order; number and
    # status of the first; place, number and status of the one that occupies the workspace.
    ids: dict[UUID, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    first: dict[UUID, tuple[int, str]] = field(default_factory=dict)
    occupying: dict[UUID, tuple[int, int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, workspaces: Collection[UUID]) -> Blocking:
        """Read what is in the way in ``workspaces``, with three queries."""
        locked = {
            pk: f"The workspace is locked by {who or 'somebody'}: {reason}"
            for pk, who, reason in Workspace.objects.filter(
                pk__in=workspaces, locked_at__isnull=False
            ).values_list("pk", "locked_by__username", "lock_reason")
        }
        interrupted: dict[UUID, int] = {}
        for workspace_id, number in (
            Task.objects.filter(
                workspace__in=workspaces,
                status=Status.INTERRUPTED,
                acknowledged_at=None,
                confirmed_at__isnull=False,
            )
            .order_by("-id")
            .values_list("workspace_id", "number")
        ):
            interrupted.setdefault(workspace_id, number)
        blocking = cls(locked, interrupted)
        for workspace_id, pk, number, status in (
            Task.objects.filter(workspace__in=workspaces, type=TaskType.PLAN_AND_APPLY)
            .exclude(status__in=FINAL)
            .order_by("id")
            .values_list("workspace_id", "pk", "number", "status")
        ):
            ids = blocking.ids[workspace_id]
            blocking.first.setdefault(workspace_id, (number, status))
            if status in OCCUPYING:
                blocking.occupying[workspace_id] = (len(ids), number, status)
            ids.append(pk)
        return blocking

    def reason(self, task_id: UUID, workspace_id: UUID, type: str, status: str) -> str:
        """Return the sentence of `selectors.blocked_by` for one task that waits."""
        if sentence := self.locked.get(workspace_id):
            return sentence
        if type != TaskType.PLAN_AND_APPLY:
            return ""
        if number := self.interrupted.get(workspace_id):
            return f"Waits until somebody acknowledges that the apply of #{number} was cut off"
        if status != Status.PENDING:
            return ""
        place = bisect_left(self.ids[workspace_id], task_id)
        occupied_at, number, head = self.occupying.get(workspace_id, (-1, 0, ""))
        late = occupied_at > place  # it overtook this one, which then waits for it as well
        if not place and not late:
            return ""
        count = place + late
        if not late:
            number, head = self.first[workspace_id]
        words = Status(head).label.lower()
        return f"Waits for #{number} ({words}) · position {count} in this workspace"
