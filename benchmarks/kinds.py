"""What `startup` applies: one resource that is replaced again and again, by three providers."""

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
