"""Why a task waits: a code for the program, a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from django.conf import settings
from django.db import connection

from pods_app.freeze.state import Freeze, moment_words
from pods_app.models import Pool
from pods_app.states import FreezeState
from tasks_app.formats import byte_words
from tasks_app.models import Task

#: Places in a pool's queue up to this one are named; beyond it nobody counts.
POSITIONS_MAX = 50
_SENTENCE_MAX = 500


class Code(Enum):
    """What would have to change for the task to start."""

    BLOCKED = auto()
    FROZEN = auto()
    DOUBT = auto()
    FORMER_AGENT = auto()
    NO_AGENT = auto()
    NO_ENGINE = auto()
    NO_DIRECTORY = auto()
    NO_DISK = auto()
    NO_SLOT = auto()
    BUSY = auto()


@dataclass(frozen=True)
class Waiting:
    """The one reason why a task waits."""

    code: Code
    sentence: str


FORMER_AGENT = Waiting(Code.FORMER_AGENT, "Waits for its former agent to let go")
BUSY = Waiting(Code.BUSY, "Waits for a slot; the pool is busy placing other work")


def blocked(sentence: str) -> Waiting:
    """Something in its workspace is in the way."""
    return Waiting(Code.BLOCKED, sentence)


def frozen(pool: Pool, freeze: Freeze) -> Waiting:
    """The pool is frozen, or about to be, or just coming back."""
    if freeze.state == FreezeState.REOPENING:
        sentence = f"Pool {pool.name} comes back from a freeze"
    elif freeze.state == FreezeState.CLOSING:
        begins = moment_words(freeze.until, freeze.zone)
        sentence = f"Pool {pool.name} freezes at {begins} and is frozen {freeze.end_words()}"
    elif freeze.problem:
        sentence = f"Pool {pool.name} is frozen: {freeze.problem}"
    else:
        sentence = f"Pool {pool.name} is frozen {freeze.end_words()}"
    names = f" ({freeze.names})" if freeze.names else ""
    return Waiting(Code.FROZEN, f"{sentence}{names}"[:_SENTENCE_MAX])


def doubt(sentence: str) -> Waiting:
    """No apply is permitted while the database may be older than reality."""
    return Waiting(Code.DOUBT, sentence)


def no_agent(pool: Pool) -> Waiting:
    return Waiting(Code.NO_AGENT, f"Waits for an agent: none of pool {pool.name} is online")


def no_engine(pool: Pool, engine: str, version: str) -> Waiting:
    wanted = f"{engine} {version}".strip()
    return Waiting(
        Code.NO_ENGINE, f"Waits for an agent with {wanted}: none of pool {pool.name} has it"
    )


def no_directory(pool: Pool) -> Waiting:
    """Its plan lies only in its directory, which no agent has that takes work."""
    return Waiting(
        Code.NO_DIRECTORY,
        "Waits for the agent that has its directory, as the plan was too large to be stored: none "
        f"of pool {pool.name} has it. If that agent does not come back, cancel and plan again",
    )


def no_disk(pool: Pool) -> Waiting:
    """All agents that could run it are low on disk."""
    least = byte_words(settings.SLIPWAY.disk_free_bytes_min)
    return Waiting(
        Code.NO_DISK,
        f"Waits for free disk: no suitable agent of pool {pool.name} has {least} left",
    )


def no_slot(pool: Pool, position: int = 0, of: int = 0) -> Waiting:
    """Args:
    position: place in the pool's queue, from 1; 0 when it is not known yet.
    of: length of the queue.
    """
    sentence = f"Waits for a free slot in pool {pool.name}"
    if position > POSITIONS_MAX:
        sentence += f" · more than {POSITIONS_MAX} are ahead"
    elif of > 1:
        sentence += f" · {_ordinal(position)} of {of}"
    return Waiting(Code.NO_SLOT, sentence)


def _ordinal(number: int) -> str:
    suffix = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def set_reason(task: Task, sentence: str) -> None:
    """Store why a task waits, if that changed; the caller holds the task's row."""
    Task.objects.filter(pk=task.pk, status=task.status).exclude(waiting_reason=sentence).update(
        waiting_reason=sentence
    )
    task.waiting_reason = sentence


_WRITE = """
WITH news AS (
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[])
    AS n(id, status, old, new)
), mine AS (
    SELECT task.id, news.new FROM workspace_tasks task
    JOIN news ON news.id = task.id AND news.status = task.status
             AND news.old = task.waiting_reason
    FOR NO KEY UPDATE OF task SKIP LOCKED
)
UPDATE workspace_tasks task SET waiting_reason = mine.new FROM mine WHERE mine.id = task.id
"""


def write_reasons(news: Sequence[tuple[UUID, str, str, str]]) -> None:
    """Store new reasons of many tasks in one statement that waits for nobody.

    Args:
        news: task id, status and reason as they were read, new reason. A task that changed
            meanwhile, or is changing, is left alone; the next pass sees it again.
    """
    if news:
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, [list(column) for column in zip(*news, strict=True)])
