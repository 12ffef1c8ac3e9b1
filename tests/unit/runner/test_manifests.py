"""Hashes and manifests: what counts as the reviewed plan."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents_app.runner.errors import ManifestMismatch, PlanHashMismatch
from agents_app.runner.manifest import (
    Manifest,
    differences,
    from_json,
    take_manifest,
    to_json,
    verify_plan_hash,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = tmp_path / "config"
    (config / "scripts").mkdir(parents=True)
    (config / "main.tf").write_text("one\n")
    (config / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    (config / "scripts" / "run.sh").chmod(0o755)
    (config / "link").symlink_to("main.tf")
    return config


def _take(config: Path, known: Manifest | None = None, version: str = "1.11.4") -> Manifest:
    return take_manifest(config, terraform_version=version, working_directory="", known=known)


def _settle(manifest: Manifest) -> Manifest:
    """Return the manifest as if it had been taken long after the files changed."""
    return Manifest(
        manifest.terraform_version,
        manifest.working_directory,
        manifest.entries,
        manifest.taken_ns + 10**12,
    )


# --- plan.out ----------------------------------------------------------------------------


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.out"
    path.write_bytes(os.urandom(3000))
    return path


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_reviewed_plan_is_accepted(plan_file: Path) -> None:
    assert verify_plan_hash(plan_file, _hash(plan_file)) == _hash(plan_file)


@given(position=st.integers(0, 2999), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    content = bytearray(hashlib.shake_256(b"plan").digest(3000))
    path.write_bytes(content)
    expected = _hash(path)
    content[position] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(PlanHashMismatch):
        verify_plan_hash(path, expected)


@pytest.mark.parametrize("size", [0, 1, 2999])
def test_a_truncated_or_empty_plan_is_noticed(plan_file: Path, size: int) -> None:
    expected = _hash(plan_file)
    os.truncate(plan_file, size)
    with pytest.raises(PlanHashMismatch, match="not the plan"):
        verify_plan_hash(plan_file, expected)


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanHashMismatch, match="missing"):
        verify_plan_hash(tmp_path / "plan.out", "0" * 64)


def test_a_link_to_another_plan_is_noticed(plan_file: Path, tmp_path: Path) -> None:
    expected = _hash(plan_file)
    (tmp_path / "other").write_bytes(b"other")
    plan_file.unlink()
    plan_file.symlink_to(tmp_path / "other")
    with pytest.raises(PlanHashMismatch):
        verify_plan_hash(plan_file, expected)


# --- the manifest ------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_the_machine(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(config, copy, symlinks=True)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    first, second = _take(config), _take(copy)
    assert first.digest == second.digest
    assert first.entries["main.tf"].stamp != second.entries["main.tf"].stamp


def _change(config: Path, how: str) -> None:
    match how:
        case "content":
            (config / "main.tf").write_text("two\n")
        case "executable":
            (config / "main.tf").chmod(0o755)
        case "not executable":
            (config / "scripts" / "run.sh").chmod(0o644)
        case "new file":
            (config / "scripts" / "new").touch()
        case "new folder":
            (config / "empty").mkdir()
        case "removed":
            (config / "main.tf").unlink()
        case "renamed":
            (config / "main.tf").rename(config / "other.tf")
        case "link":
            (config / "link").unlink()
            (config / "link").symlink_to("scripts/run.sh")
        case "link instead of a file":
            (config / "main.tf").rename(config.parent / "main.tf")
            (config / "main.tf").symlink_to(config.parent / "main.tf")
        case "file instead of a link":
            (config / "link").unlink()
            (config / "link").write_text("one\n")
        case "folder instead of a link":
            (config / "link").unlink()
            (config / "link").mkdir()


_CHANGES = [
    "content",
    "executable",
    "not executable",
    "new file",
    "new folder",
    "removed",
    "renamed",
    "link",
    "link instead of a file",
    "file instead of a link",
    "folder instead of a link",
]


@pytest.mark.parametrize("how", _CHANGES)
def test_every_change_changes_the_digest(config: Path, how: str) -> None:
    before = _settle(_take(config))
    _change(config, how)
    after = _take(config, before)
    assert after.digest != before.digest
    assert differences(before, after)
    assert after.digest == _take(config).digest  # as if nothing had been known


def test_the_versions_and_folder_are_part_of_it(config: Path) -> None:
    one = _take(config)
    assert one.digest != _take(config, version="1.12.0").digest
    moved = take_manifest(config, terraform_version="1.11.4", working_directory="scripts")
    assert one.digest != moved.digest


def test_a_swap_of_the_same_size_and_time_is_noticed(config: Path) -> None:
    path = config / "main.tf"
    facts = path.stat()
    before = _settle(_take(config))
    path.write_text("two\n")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert _take(config, before).digest != before.digest


def test_only_what_may_have_changed_is_hashed_again(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _settle(_take(config))
    (config / "main.tf").write_text("two\n")
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return "x"

    monkeypatch.setattr("agents_app.runner.manifest.sha256_file", count)
    _take(config, before)
    assert hashed == ["main.tf"]


def test_a_stamp_as_young_as_the_manifest_is_not_believed(config: Path) -> None:
    """A file may change twice within one tick of the file system's clock."""
    before = _take(config)
    entry = before.entries["main.tf"]
    (config / "main.tf").write_text("two\n")
    facts = (config / "main.tf").lstat()
    stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    lying = Manifest(
        before.terraform_version,
        before.working_directory,
        before.entries | {"main.tf": type(entry)("file", entry.mode, entry.content, stamp)},
        time.time_ns(),
    )
    assert _take(config, lying).digest != before.digest


def test_providers_and_notes_of_terraform_are_left_out(config: Path) -> None:
    folder = config / ".terraform"
    (folder / "providers" / "x").mkdir(parents=True)
    (folder / "modules").mkdir()
    (folder / "modules" / "modules.json").write_text("{}")
    before = _take(config)
    (folder / "providers" / "x" / "y").write_text("changed")
    (folder / "terraform.tfstate").write_text("changed")
    assert _take(config).digest == before.digest
    (folder / "modules" / "modules.json").write_text("changed")
    assert _take(config).digest != before.digest


def test_a_fifo_is_refused_instead_of_read(config: Path) -> None:
    os.mkfifo(config / "gate.auto.tfvars")
    with pytest.raises(ManifestMismatch, match=r"gate\.auto\.tfvars"):
        _take(config)


def test_it_survives_being_stored(config: Path) -> None:
    manifest = _take(config)
    again = from_json(to_json(manifest))
    assert again == manifest and again.digest == manifest.digest


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"entries": {"a": [1]}}', "null"])
def test_a_damaged_one_is_named(text: str) -> None:
    with pytest.raises(ManifestMismatch, match="damaged"):
        from_json(text)


def test_differences_are_few_and_by_name(config: Path) -> None:
    before = _take(config)
    for number in range(5):
        (config / f"new-{number}").touch()
    assert differences(before, _take(config)) == "new-0, new-1, new-2 and 2 more"
