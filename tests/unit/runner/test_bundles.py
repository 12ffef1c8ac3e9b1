"""Plan bundles: complete, bounded, and never a way out of the directory."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agents_app.runner import bundle
from agents_app.runner.errors import PlanUnusable
from agents_app.runner.manifest import Manifest, from_json, paths, take_manifest


def _take(config: Path) -> Manifest:
    return take_manifest(config, terraform_version="1", working_directory="")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = tmp_path / "config"
    (config / "folder").mkdir(parents=True)
    (config / "main.tf").write_text("main")
    (config / "changed.tf").write_text("before")
    (config / "gone.txt").write_text("x")
    (config / "folder" / "inside").write_text("x")
    (tmp_path / "plan.out").write_bytes(b"the plan")
    return config


def _plan(config: Path) -> tuple[Manifest, Manifest]:
    """Change a configuration as planning may."""
    unpacked = _take(config)
    (config / "changed.tf").write_text("after")
    (config / "gone.txt").unlink()
    (config / "folder" / "inside").unlink()
    (config / "folder").rmdir()
    (config / "folder").write_text("a file now")
    (config / "made" / "deep").mkdir(parents=True)
    (config / "made" / "deep" / "run.sh").write_text("#!/bin/sh")
    (config / "made" / "deep" / "run.sh").chmod(0o755)
    (config / "made" / "empty").mkdir()
    os.link(config / "made" / "deep" / "run.sh", config / "made" / "hard")
    (config / "made" / "link").symlink_to("deep/run.sh")
    return unpacked, _take(config)


def _pack(config: Path, unpacked: Manifest, planned: Manifest, bytes_max: int = 10**6) -> Path:
    packed = config.parent / "bundle.tar.gz"
    size = bundle.pack(
        packed,
        plan_file=config.parent / "plan.out",
        config=config,
        unpacked=unpacked,
        planned=planned,
        bytes_max=bytes_max,
    )
    assert size == packed.stat().st_size
    return packed


def test_what_planning_did_is_done_again_elsewhere(config: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    fresh = original / "config"
    shutil.copytree(config, fresh)
    unpacked, planned = _plan(config)
    packed = _pack(config, unpacked, planned)
    stored = from_json(bundle.read_manifest(packed))
    assert stored.digest == planned.digest

    bundle.restore(
        packed,
        plan_file=original / "plan.out",
        config=fresh,
        files_gone=paths(fresh) - stored.entries.keys(),
    )
    assert _take(fresh).digest == planned.digest
    assert (original / "plan.out").read_bytes() == b"the plan"


def test_unchanged_files_are_not_packed(config: Path) -> None:
    unpacked, planned = _plan(config)
    with tarfile.open(_pack(config, unpacked, planned)) as tar:
        names = tar.getnames()
        assert all(member.type != tarfile.LNKTYPE for member in tar.getmembers())
    assert "config/changed.tf" in names and "config/main.tf" not in names


def test_one_over_the_limit_is_not_kept(config: Path) -> None:
    unpacked, planned = _plan(config)
    (config.parent / "plan.out").write_bytes(os.urandom(100_000))
    packed = config.parent / "bundle.tar.gz"
    size = bundle.pack(
        packed,
        plan_file=config.parent / "plan.out",
        config=config,
        unpacked=unpacked,
        planned=planned,
        bytes_max=50_000,
    )
    assert size is None and not packed.exists()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


_HOSTILE: dict[str, list[tarfile.TarInfo]] = {
    "parent": [_member("config/../../evil")],
    "absolute": [_member("/evil")],
    "elsewhere": [_member("evil")],
    "the folder itself": [_member("config")],
    "through a link": [
        _member("config/out", tarfile.SYMTYPE, ".."),
        _member("config/out/evil"),
    ],
    "through a nested link": [
        _member("config/a", tarfile.DIRTYPE),
        _member("config/a/out", tarfile.SYMTYPE, "../.."),
        _member("config/a/out/b/evil"),
    ],
    "hard link": [_member("config/evil", tarfile.LNKTYPE, "config/main.tf")],
    "device": [_member("config/evil", tarfile.CHRTYPE)],
    "fifo": [_member("config/evil", tarfile.FIFOTYPE)],
    "plan as a link": [_member("plan.out", tarfile.SYMTYPE, "/etc/passwd")],
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_members_are_refused(config: Path, tmp_path: Path, name: str) -> None:
    packed = tmp_path / "hostile.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        for member in _HOSTILE[name]:
            tar.addfile(member, io.BytesIO())
    with pytest.raises(PlanUnusable):
        bundle.restore(packed, plan_file=tmp_path / "new.out", config=config, files_gone=set())
    assert not list(tmp_path.rglob("evil")) and not Path("/evil").exists()
    assert (config / "main.tf").read_text() == "main"


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"not a bundle",
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
    ],
)
def test_a_damaged_bundle_is_unusable(
    config: Path, tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "plan.out").write_bytes(os.urandom(5000))
    packed = _pack(config, *_plan(config))
    packed.write_bytes(harm(packed.read_bytes()))
    with pytest.raises(PlanUnusable):
        bundle.read_manifest(packed)
        bundle.restore(packed, plan_file=tmp_path / "new.out", config=config, files_gone=set())
    assert not (tmp_path / "new.out").exists()


def test_a_bundle_without_a_plan_is_unusable(config: Path, tmp_path: Path) -> None:
    packed = tmp_path / "empty.tar.gz"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(PlanUnusable):
        bundle.read_manifest(packed)
    with pytest.raises(PlanUnusable, match="holds no plan"):
        bundle.restore(packed, plan_file=tmp_path / "new.out", config=config, files_gone=set())
