"""Small Terraform configurations, and the files by which tests see what was really applied."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.programs import wait_until

Files = Mapping[str, str | bytes]


def archive(files: Files) -> bytes:
    """Return a tar.gz of files by path; a path that ends with .sh is executable."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), int(time.time())
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


class Counter:
    """A file that gets one line whenever a resource is really created."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait(self, lines: int = 1) -> None:
        """Wait for so many lines."""
        wait_until(lambda: len(self.lines) >= lines, f"{lines} line(s) in {self.path.name}")


class Gate:
    """A file that lets applies go on which wait for it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        self.path.touch()


def counting(counter: Counter, gate: Gate | None = None, name: str = "counted") -> dict[str, str]:
    """A configuration without a provider that adds a line to ``counter`` per real apply.

    Args:
        gate: the apply goes on only when it is open; the line is written before.
        name: of the resource, and its line.
    """
    wait = f"; until [ -e {gate.path} ]; do sleep 0.05; done" if gate else ""
    return {
        "main.tf": f"""
resource "terraform_data" "{name}" {{
  provisioner "local-exec" {{
    command = "echo {name} >> {counter.path}{wait}"
  }}
}}

output "value" {{
  value = "known only after {name}: ${{terraform_data.{name}.id}}"
}}
"""
    }


def faulty(
    counter: Counter,
    *,
    count: int = 1,
    sleep_ms: int = 0,
    fail: bool = False,
    stubborn: bool = False,
) -> dict[str, str]:
    """A configuration with the fault provider's resources.

    Args:
        sleep_ms: how long each takes to create, in milliseconds.
        stubborn: whether they take so long even when they are asked to stop.
    """
    return {
        "main.tf": f"""
terraform {{
  required_providers {{
    fault = {{ source = "registry.terraform.io/slipway/fault" }}
  }}
}}

resource "fault_resource" "slow" {{
  count        = {count}
  name         = "slow-${{count.index}}"
  sleep_ms     = {sleep_ms}
  fail         = {str(fail).lower()}
  stubborn     = {str(stubborn).lower()}
  counter_file = "{counter.path}"
}}
"""
    }
