"""A full disk while planning: Terraform says success and leaves an empty plan."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.configurations import Counter, counting
from tests.support.platform import StartPlatform
from tests.support.requirements import missing

#: Enough to unpack a configuration and to start, not for its plan, in bytes.
_LEFT = 160 * 1024
#: A small file whose plan has 512 kB that hardly compress.
_LARGE_PLAN = """
resource "terraform_data" "large" {
  input = join("", [for pair in setproduct(range(64), range(64)) : sha512(jsonencode(pair))])
}
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB: an apply wants some room for its state."""
    if os.geteuid() != 0:
        missing("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        missing(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_plan_on_a_full_disk_fails_and_is_never_shown_as_a_plan(
    small_disk: Path,
    start_platform: StartPlatform,
    counter: Counter,
    settings: Any,
) -> None:
    """Agents with so little room are given no work otherwise; here and in the server."""
    settings.SLIPWAY = replace(settings.SLIPWAY, disk_free_bytes_min=0)
    platform = start_platform(work_directory=str(small_disk), disk_free_bytes_min="0")
    platform.work = small_disk
    platform.start_agent()
    site = platform.site(counting(counter))
    first = site.plan()
    site.apply(first)  # the disk is large enough

    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    with filler.open("wb") as file:
        file.write(b"x" * max(free.f_bavail * free.f_frsize - _LEFT, 0))
    site.configure({**counting(counter, name="second"), "large.tf": _LARGE_PLAN})
    task = site.wait(site.start(), "failed")
    assert re.search("no space|disk.* full", f"{task.error} {task.diagnostics}"), "it says why"
    assert task.plan_hash is None
    assert counter.lines == ["counted"]

    filler.unlink()
    site.apply(site.plan())
    assert counter.lines == ["counted", "second"], "with room again it works again"
