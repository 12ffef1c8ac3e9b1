"""The calls of one lease: contents up and down, log, permit, and the end of a phase."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx

from agents_app.agent.client import Patience, Refused, Server, Unreachable
from agents_app.runner.errors import RunCancelled, StepFailed
from agents_app.schema import (
    DIGEST_HEADER,
    Artifact,
    Empty,
    EndedRequest,
    FinishReply,
    FinishRequest,
    LogReply,
    PermitReply,
    PermitRequest,
    Phase,
    ProgressRequest,
    WarmupReport,
)

_PIECE = 1 << 20
#: The server stores a content before it answers.
_STORE_SECONDS = 300.0
_PERMIT_SECONDS = 10.0
_DOWNLOADS = 5


class LeaseCalls:
    """Implements `runner.run.ArtifactSource`. Safe for threads."""

    def __init__(self, server: Server, lease_id: UUID, epoch: int) -> None:
        self._server = server
        self._path = f"leases/{lease_id}/"
        self._epoch = {"epoch": epoch}
        self._downloading = Patience()

    def stop_downloads(self) -> None:
        """Let a run that waits for a content be cancelled."""
        self._downloading.end()

    # --- contents -------------------------------------------------------------------------

    def configuration(self, destination: Path) -> None:
        """Fetch the configuration's archive into a file.

        Raises:
            StepFailed: it arrives damaged again and again, or the server does not give it.
            RunCancelled: nobody waits for it any more.
        """
        self._fetch("configuration", destination)

    def artifact(self, kind: Artifact, destination: Path) -> None:
        """Fetch a stored content into a file."""
        self._fetch(f"artifacts/{kind}", destination)

    def _fetch(self, what: str, destination: Path) -> None:
        for _ in range(_DOWNLOADS):
            try:
                if self._fetched(what, destination):
                    return
            except Refused as refusal:
                raise StepFailed(refusal.detail) from None
            except Unreachable:
                raise RunCancelled("Cancelled.") from None
            except httpx.HTTPError:
                continue  # cut off on the way
        destination.unlink(missing_ok=True)
        raise StepFailed(f"The download of the {what.rpartition('/')[2]} was damaged every time.")

    def _fetched(self, what: str, destination: Path) -> bool:
        """Download a content once; returns whether it is what the server says."""
        digest = hashlib.sha256()
        with (
            self._server.send(
                "GET",
                self._path + what,
                lambda: None,
                self._downloading,
                params=self._epoch,
                stream=True,
            ) as response,
            destination.open("wb") as file,
        ):
            for piece in response.iter_bytes(_PIECE):
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest() == response.headers.get(DIGEST_HEADER)

    def put_artifact(self, kind: Artifact, path: Path, patience: Patience) -> None:
        """Store a file's content with the lease."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        headers = {DIGEST_HEADER: digest, "Content-Length": str(path.stat().st_size)}
        with self._server.send(
            "PUT",
            f"{self._path}artifacts/{kind}",
            lambda: _pieces(path),
            patience,
            params=self._epoch,
            headers=headers,
            read=_STORE_SECONDS,
        ):
            return

    # --- the lease's life -----------------------------------------------------------------

    def put_log(self, phase: Phase, offset: int, data: bytes, patience: Patience) -> int:
        """Store log bytes; returns the offset at which to continue."""
        with self._server.send(
            "PUT",
            f"{self._path}log",
            lambda: data,
            patience,
            params={**self._epoch, "phase": phase.value, "offset": offset},
        ) as response:
            return LogReply.model_validate_json(response.read()).next_offset

    def progress(self, message: ProgressRequest, patience: Patience) -> None:
        """Tell steps that are over."""
        self._server.post(f"{self._path}progress", message, Empty, patience, params=self._epoch)

    def warmup(self, message: WarmupReport, patience: Patience) -> None:
        """Tell what lies ready for the apply."""
        self._server.post(f"{self._path}warmup", message, Empty, patience, params=self._epoch)

    def permit(self, message: PermitRequest, patience: Patience) -> float:
        """Ask for the apply permit; returns for how many seconds the state may be locked."""
        reply: PermitReply = self._server.post(
            f"{self._path}permit",
            message,
            PermitReply,
            patience,
            params=self._epoch,
            read=_PERMIT_SECONDS,
        )
        return reply.valid_seconds

    def finish(self, message: FinishRequest, patience: Patience) -> FinishReply:
        """Report the end of a phase."""
        reply: FinishReply = self._server.post(
            f"{self._path}finish", message, FinishReply, patience, params=self._epoch
        )
        return reply

    def ended(self, message: EndedRequest, patience: Patience) -> None:
        """Report that the process tree is gone: the slot is free."""
        self._server.post(f"{self._path}ended", message, Empty, patience, params=self._epoch)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(partial(file.read, _PIECE), b"")
