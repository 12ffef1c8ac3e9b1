"""What is applied: one resource that is replaced again and again, by three providers.

The baseline "rebuilt" installs them from zip archives under a lock file, as Terraform without
Slipway does on a machine that keeps nothing. The lock file is the one that Terraform itself wrote
when the same mirror was planned from: one `h1:` hash, as `terraform providers lock` writes it too
(the figure `lock_file_hashes`). To compare it, init unpacks an archive once more than to install
it. Measured with the large provider, processor seconds of an init: 3.0 without a lock file, 6.0
with `h1:`, 6.0 with `h1:` and `zh:` as made from a registry, 3.1 with `zh:` alone, which Terraform
does not write.

The large provider is 500 MB of machine code, which an archive shrinks to 39 % as it does real ones.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import say
from benchmarks.result import CannotMeasure
from config.launch import BASE_DIR
from tests.tools import build

# Creating lasts 300 ms, so that what Terraform wrote can be read before it is removed.
_BUILT_IN = """
variable "name" { type = string }
resource "terraform_data" "one" {
  triggers_replace = [var.name]
  provisioner "local-exec" { command = "sleep 0.3" }
}
"""
_FAULT = """
terraform {
  required_providers {
    fault = { source = "slipway/%s", version = "1.0.0" }
  }
}
variable "name" { type = string }
resource "fault_resource" "one" {
  name     = var.name
  sleep_ms = 300
}
"""


@dataclass(frozen=True)
class Kind:
    """A provider and a configuration that uses it."""

    name: str
    about: str
    configuration: str
    provider: bool = True
    large: bool = False


KINDS = (
    Kind("built-in", "the provider built into Terraform", _BUILT_IN, provider=False),
    Kind("small", "a provider of 18 MB", _FAULT % "fault"),
    Kind("large", "a provider of 500 MB", _FAULT % "fault-large", large=True),
)


def zipped_mirror() -> Path:
    """Return a mirror that holds the small and the large provider as zip archives.

    Raises:
        CannotMeasure: Go is missing, or does not build them.
    """
    if shutil.which("go") is None:
        raise CannotMeasure(
            "Go is not installed; it builds the providers that are measured. Install Go 1.25 or "
            "newer, and repeat."
        )
    say("Building the providers (some minutes the first time)")
    mirror = BASE_DIR / "var" / "benchmarks-mirror"
    shutil.rmtree(mirror, ignore_errors=True)
    try:
        for source in (build.zipped_mirror(), build.large_zipped_mirror()):
            shutil.copytree(source, mirror, dirs_exist_ok=True, copy_function=_link)
    except build.BuildFailed as error:
        raise CannotMeasure(f"The providers cannot be built: {error}") from error
    return mirror


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
