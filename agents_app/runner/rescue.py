"""State that Terraform could not save: found, and copied durably out of the work directory.

Terraform leaves it as ``errored.tfstate`` in its working directory; where the disk is full too,
it prints it as the message "Emergency state dump" (terraform-physics §9). Nothing else knows
what was applied then.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from agents_app.runner.errors import ManifestMismatch
from agents_app.runner.manifest import from_json
from agents_app.runner.plan import MANIFEST_FILE
from agents_app.runner.process import TerraformProcess, release_reserve
from agents_app.runner.run import Run

ERRORED = "errored.tfstate"
_DUMP = b'"Emergency state dump"'
_STATE = b'"state":'
#: What Terraform's messages say when the backend did not take the state.
_NOT_SAVED = ("Failed to save state", "Failed to persist state", "Failed to create local state")


def rescue_state(run: Run, running: TerraformProcess) -> Path | None:
    """Copy a state that was not saved to a file beside the log.

    Returns:
        The copy, on disk for good; None if there is nothing to rescue.

    Raises:
        OSError: there is one and it cannot be copied; it still lies where it was.
    """
    release_reserve(running.folder)  # a full disk has room for the copy again
    state = _errored(run) or _dumped(running.stdout)
    if state is None:
        return None
    target = run.log.path.with_suffix(".recovered.tfstate")
    temporary = target.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(state)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target


def not_saved(summaries: list[str]) -> bool:
    """Return whether these errors say that the backend does not have the state."""
    return any(summary.startswith(_NOT_SAVED) for summary in summaries)


def _errored(run: Run) -> bytes | None:
    """Return a whole state that Terraform left; the configuration may hold an old one.

    Told apart by what the plan's manifest has, not by times: a clock may have been set meanwhile.
    """
    path = run.working_directory / ERRORED
    try:
        content = path.read_bytes()
    except OSError:
        return None
    old = hashlib.sha256(content).hexdigest() == _planned_digest(run, path)
    return content if _is_state(content) and not old else None


def _planned_digest(run: Run, path: Path) -> str:
    try:
        manifest = from_json((run.directory.path / MANIFEST_FILE).read_text())
    except (OSError, UnicodeDecodeError, ManifestMismatch):
        return ""
    entry = manifest.entries.get(str(path.relative_to(run.directory.config)))
    return entry.content if entry else ""


def _dumped(stdout: Path) -> bytes | None:
    """Return the dumped state byte for byte: a parser would change its numbers."""
    found = None
    try:
        with stdout.open("rb") as lines:
            for line in lines:
                if _DUMP in line and _STATE in line:
                    found = line
    except OSError:
        return None
    if found is None:
        return None
    text = found[found.index(_STATE) + len(_STATE) :].decode(errors="replace").lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return text.encode()  # cut off by a full disk: better than nothing, for a person
    return text[:end].encode()


def _is_state(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except ValueError:
        return False
    return isinstance(document, dict) and "lineage" in document
