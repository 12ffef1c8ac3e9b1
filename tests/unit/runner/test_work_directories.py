"""Work directories: one owner at a time, deleted without surprises."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.workdir import WorkDirectory, delete_tree, directories, empty_trash

_WORKSPACE, _TASK = uuid4(), uuid4()


def _directory(base: Path, task: UUID = _TASK) -> WorkDirectory:
    return WorkDirectory(base, _WORKSPACE, task)


def test_its_place_and_modes(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    directory.acquire()
    directory.create_anew()
    assert directory.path == tmp_path / "workspaces" / str(_WORKSPACE) / str(_TASK)
    for path in (directory.path, directory.config, directory.run):
        assert path.stat().st_mode & 0o777 == 0o700
    directory.release()


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = _directory(tmp_path), _directory(tmp_path)
    first.acquire()
    first.acquire()  # again is harmless
    with pytest.raises(DirectoryInUse, match=str(_TASK)):
        second.acquire()
    first.release()
    second.acquire()
    assert second.locked and not first.locked
    second.release()


def test_the_lock_file_goes_with_the_directory(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    directory.acquire()
    directory.create_anew()
    directory.release()
    assert len(list((tmp_path / "locks").iterdir())) == 1
    directory.acquire()
    directory.discard()
    directory.release()
    assert not list((tmp_path / "locks").iterdir())


def test_a_removed_lock_file_never_gives_two_owners(tmp_path: Path) -> None:
    """Owners come and go while the file is removed and made again."""
    inside = most = ended = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, ended
        for _ in range(150):
            directory = _directory(tmp_path)
            try:
                directory.acquire()
            except DirectoryInUse:
                continue
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1
            directory.release()
        with guard:
            ended += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and ended == 6


def test_deleting_does_not_follow_links_and_minds_no_modes(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    directory = _directory(tmp_path / "base")
    directory.acquire()
    directory.create_anew()
    (directory.config / "link").symlink_to(precious)
    read_only = directory.config / "module"
    read_only.mkdir()
    (read_only / "file").touch()
    read_only.chmod(0o500)
    directory.discard()
    assert (precious / "file").exists() and not directory.path.exists()
    assert not list((tmp_path / "base" / "trash").iterdir())
    directory.release()


def test_quarantine_keeps_what_it_moves(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    directory.acquire()
    assert directory.quarantine() is None
    directory.create_anew()
    (directory.config / "evidence").touch()
    moved = directory.quarantine()
    assert moved is not None and (moved / "config" / "evidence").exists()
    assert not directory.exists
    directory.release()


def test_each_command_has_a_folder_of_its_own(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    directory.acquire()
    directory.create_anew()
    names = [directory.new_run_folder(what).name for what in ("init", "init", "show -json")]
    assert names == ["init", "init-2", "show-json"]
    directory.release()


def test_directories_on_disk_are_listed(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    directory.acquire()
    directory.create_anew()
    (directory.config / "file").write_bytes(b"x" * 100)
    (tmp_path / "workspaces" / "not-an-id").mkdir()
    (facts,) = directories(tmp_path)
    assert (facts.workspace_id, facts.task_id, facts.bytes) == (_WORKSPACE, _TASK, 100)
    directory.release()


def test_trash_of_a_killed_process_is_emptied(tmp_path: Path) -> None:
    left = tmp_path / "trash" / "half"
    left.mkdir(parents=True)
    (left / "file").touch()
    empty_trash(tmp_path)
    assert not list((tmp_path / "trash").iterdir())


def test_no_descriptor_leaks_when_the_lock_is_taken(tmp_path: Path) -> None:
    owner = _directory(tmp_path)
    owner.acquire()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(DirectoryInUse):
            _directory(tmp_path).acquire()
    assert len(os.listdir("/proc/self/fd")) == before
    owner.release()


_NOBODY = 65534


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a folder of a user whom modes bind; root becomes one for the test."""
    folder, root = Path(tempfile.mkdtemp()), os.geteuid() == 0
    if root:
        os.chown(folder, _NOBODY, _NOBODY)
        os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
def test_a_folder_that_nobody_may_read_goes_too(unprivileged: Path, mode: int) -> None:
    shut = unprivileged / "trash" / "half" / "shut"
    (shut / "shut").mkdir(parents=True)
    (shut / "shut" / "file").touch()
    for folder in (shut / "shut", shut, shut.parent):
        folder.chmod(mode)
    empty_trash(unprivileged)
    assert not list((unprivileged / "trash").iterdir())


def test_two_may_delete_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    unlink = os.unlink

    def late(*args, **kwargs):
        unlink(*args, **kwargs)
        unlink(*args, **kwargs)  # the other one was faster

    monkeypatch.setattr(os, "unlink", late)
    delete_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    delete_tree(tmp_path / "tree")


def test_what_cannot_go_keeps_no_agent_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "trash" / name).mkdir(parents=True)
    rmdir = os.rmdir

    def refuse(path, *args, **kwargs):
        if Path(path).name == "a":
            raise PermissionError("immutable")
        rmdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "rmdir", refuse)
    empty_trash(tmp_path)
    assert [path.name for path in (tmp_path / "trash").iterdir()] == ["a"]
