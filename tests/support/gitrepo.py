"""A Git repository on this machine, as the source of a module."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.configurations import Files
from tests.support.requirements import require


def make_repository(directory: Path, files: Files) -> Path:
    """Make a repository with one commit of ``files``; skips the test without Git."""
    git = require("git")
    directory.mkdir()
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (directory / name).write_bytes(data)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([git, *identity, *arguments], cwd=directory, check=True)
    return directory
