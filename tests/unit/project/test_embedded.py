"""The embedded PostgreSQL trusts whoever reaches its socket, so its folder must be closed."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from config import embedded
from config.embedded import EmbeddedError


def test_a_socket_outside_the_data_is_for_its_user_alone(tmp_path):
    folder = tmp_path / "socket"
    folder.mkdir(mode=0o755)
    embedded._guard(folder, None)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_somebody_else_made_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "socket"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(EmbeddedError, match="belongs to user"):
        embedded._guard(folder, None)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_link_that_somebody_else_made_is_refused(tmp_path):
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (tmp_path / "socket").symlink_to(target)
    with pytest.raises(EmbeddedError, match="remove it"):
        embedded._guard(tmp_path / "socket", None)
    assert target.stat().st_mode & 0o777 == 0o755


def test_it_starts_where_the_path_is_too_long_for_a_socket():
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)  # root's PostgreSQL runs as another user, who gets through
    wanted, folder = base / ("long" * 30), None
    try:
        url = embedded.start(wanted, throw_away=True)
        folder = Path(unquote(url.rpartition("host=")[2]))
        assert folder.parent == Path("/var/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        embedded.stop(wanted)
        shutil.rmtree(base)
        if folder is not None:
            shutil.rmtree(folder)
