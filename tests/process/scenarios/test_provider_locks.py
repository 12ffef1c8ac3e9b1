"""Lock files of other platforms, and the mirror that every run shares."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from tests.support.configurations import Counter, faulty
from tests.support.platform import Platform
from tests.tools import build

_ELSEWHERE = """
provider "registry.terraform.io/slipway/fault" {
  version = "1.0.0"
  hashes = [
    "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "zh:%s",
  ]
}
"""


def test_a_lock_file_of_another_platform_works_with_a_filled_mirror(
    platform: Platform, counter: Counter, zipped_provider_mirror: Path
) -> None:
    """Terraform itself refuses it: an unpacked package satisfies neither hash."""
    package = f"terraform-provider-fault_1.0.0_{build.target()}.zip"
    (archive,) = zipped_provider_mirror.rglob(package)
    lock = _ELSEWHERE % hashlib.sha256(archive.read_bytes()).hexdigest()
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(zipped_provider_mirror))

    filling = platform.site(faulty(counter))
    filling.apply(filling.plan())
    for number, path in enumerate(("held", "normal"), start=2):
        site = platform.site({**faulty(counter), ".terraform.lock.hcl": lock})
        task = site.plan()
        locked = (site.directory(task) / "config" / ".terraform.lock.hcl").read_text()
        assert len(re.findall(r'"h1:', locked)) == 2, "this platform's hash was added"
        if path == "normal":
            shutil.rmtree(site.directory(task))
        site.apply(task)
        assert task.apply_path == path
        assert counter.lines == ["slow-0 created"] * number


def test_a_lock_file_with_other_hashes_is_refused(
    platform: Platform, counter: Counter, zipped_provider_mirror: Path
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(zipped_provider_mirror))
    filling = platform.site(faulty(counter))
    filling.plan()
    site = platform.site({**faulty(counter), ".terraform.lock.hcl": _ELSEWHERE % ("0" * 64)})
    task = site.wait(site.start(), "failed")
    assert "checksums" in str(task.diagnostics) + task.error


def test_failing_resources_fail_the_apply_and_keep_what_was_created(
    platform: Platform, counter: Counter, provider_mirror: Path
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    files = faulty(counter, fail=True)
    extra = f"""
resource "fault_resource" "good" {{
  name         = "good"
  counter_file = "{counter.path}"
}}
"""
    site = platform.site({**files, "good.tf": extra})
    task = site.apply(site.plan(), ends="failed")
    assert counter.lines == ["good created"]
    assert site.resources == ["fault_resource.good"]
    assert "was not created" in task.error
    assert task.diagnostics[0]["filename"] == "main.tf"
    assert not site.locked
