"""Who this agent is, kept on its disk: pod UID, registration, newest lease."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from agents_app.agent.disk import private_folder, write_whole
from agents_app.agent.options import AgentError
from agents_app.schema import AgentRecord, RegisterReply


class Identity:
    """The agent's record, on disk before it counts. Safe for threads.

    Args:
        directory: the agent's own; locked until :meth:`close`, or the process's end.
        pod_uid: given by whoever runs the pod; "" takes the recorded one, or makes one.

    Raises:
        AgentError: another agent works with this directory, or it cannot be used.
    """

    def __init__(self, directory: Path, pod_uid: str = "") -> None:
        self._path = directory / "identity.json"
        self._lock = threading.Lock()
        try:
            private_folder(directory)
            self._held = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AgentError(
                f"Another agent works with {directory}; give each agent its own --directory."
            ) from None
        except OSError as error:
            raise AgentError(
                f"The agent's directory {directory} cannot be used: {error.strerror}."
            ) from None
        self._record = self._read(pod_uid)
        write_whole(self._path, self._record.model_dump_json())

    def _read(self, pod_uid: str) -> AgentRecord:
        fresh = AgentRecord(pod_uid=pod_uid or str(uuid.uuid4()))
        try:
            record = AgentRecord.model_validate_json(self._path.read_text())
        except (FileNotFoundError, ValidationError):
            return fresh
        # With another UID this is another pod on an old disk.
        return record if pod_uid in ("", record.pod_uid) else fresh

    def _change(self, **changes: object) -> None:
        record = self._record.model_copy(update=changes)
        write_whole(self._path, record.model_dump_json())
        self._record = record

    def close(self) -> None:
        """Let another agent have the directory."""
        os.close(self._held)

    # --- what it holds --------------------------------------------------------------------

    @property
    def pod_uid(self) -> str:
        return self._record.pod_uid

    @property
    def registration_key(self) -> UUID:
        """By it the server knows that a repeated registration is this agent's."""
        return self._record.registration_key

    @property
    def registration(self) -> RegisterReply | None:
        """What the server said at the last registration, with the newest token."""
        return self._record.registration

    @property
    def token(self) -> str:
        """The agent's token, "" before the first registration."""
        registration = self._record.registration
        return registration.agent_token if registration else ""

    @property
    def incarnation(self) -> UUID | None:
        """The installation's incarnation whose leases this agent works for."""
        return self._record.incarnation

    @property
    def newest_lease(self) -> UUID | None:
        return self._record.newest_lease

    @property
    def newest_permit(self) -> UUID | None:
        """The newest lease that is over and whose apply was permitted."""
        return self._record.newest_permit

    # --- what changes ---------------------------------------------------------------------

    def registered(self, reply: RegisterReply) -> None:
        """Keep a registration. Its incarnation counts only by :meth:`begin`, if there is one."""
        with self._lock:
            self._change(
                registration=reply,
                incarnation=self._record.incarnation or reply.incarnation,
            )

    def rotated(self, token: str) -> None:
        """Keep a new token."""
        with self._lock:
            registration = self._record.registration
            assert registration is not None, "a token comes only to a registered agent"
            self._change(registration=registration.model_copy(update={"agent_token": token}))

    def begin(self, incarnation: UUID) -> None:
        """Work for a new incarnation: leases of the former one prove nothing about it."""
        with self._lock:
            self._change(incarnation=incarnation, newest_lease=None, newest_permit=None)

    def received(self, lease_id: UUID) -> None:
        """Remember the newest lease; ids are UUIDv7, so the newest is the greatest."""
        with self._lock:
            newest = self._record.newest_lease
            if newest is None or lease_id > newest:
                self._change(newest_lease=lease_id)

    def permitted(self, lease_id: UUID, incarnation: UUID) -> None:
        """Remember that a lease's apply was permitted, before the lease's journal goes."""
        with self._lock:
            if incarnation == self._record.incarnation:
                self._change(newest_permit=lease_id)
