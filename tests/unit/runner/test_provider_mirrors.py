"""Lock files and the agent's mirror."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from agents_app.runner.providers import ProviderMirror, package_hash, read_lock

_ADDRESS = "registry.terraform.io/hashicorp/time"
_LOCK = f"""# This file is maintained automatically by "terraform init".
provider "{_ADDRESS}" {{
  version     = "0.14.2"
  constraints = "~> 0.14"
  hashes = [
    "h1:foreign=",
    "zh:1111",
    "zh:2222",
  ]
}}

provider "registry.terraform.io/hashicorp/null" {{
  version = "3.0.0"
  hashes = [
    "zh:9999",
  ]
}}
"""


def _install(root: Path, content: bytes = b"binary") -> Path:
    """Lay a package out as init does; returns the `.terraform` folder."""
    package = root / ".terraform" / "providers" / _ADDRESS / "0.14.2" / "linux_amd64"
    package.mkdir(parents=True)
    (package / "terraform-provider-time_v0.14.2").write_bytes(content)
    return root / ".terraform"


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    path = tmp_path / ".terraform.lock.hcl"
    path.write_text(_LOCK)
    return path


def test_a_lock_file_is_read() -> None:
    time, null = read_lock(_LOCK)
    assert (time.address, time.version) == (_ADDRESS, "0.14.2")
    assert time.hashes == {"h1:foreign=", "zh:1111", "zh:2222"}
    assert null.hashes == {"zh:9999"}
    assert read_lock("") == []


def test_an_installed_package_is_published_once_and_linked(tmp_path: Path, lock_file: Path) -> None:
    mirror = ProviderMirror(tmp_path / "mirror")
    one = _install(tmp_path / "one")
    assert not mirror.holds(read_lock(_LOCK)[:1])
    assert mirror.publish(one, lock_file) == [f"{_ADDRESS} 0.14.2"]
    assert mirror.packages() == [f"{_ADDRESS} 0.14.2"] and mirror.holds(read_lock(_LOCK)[:1])
    package = one / "providers" / _ADDRESS / "0.14.2" / "linux_amd64"
    assert package.is_symlink()
    assert (package / "terraform-provider-time_v0.14.2").read_bytes() == b"binary"
    # A second installation of the same is linked too, and the mirror stays as it is.
    two = _install(tmp_path / "two", b"other")
    assert mirror.publish(two, lock_file) == []
    published = tmp_path / "mirror" / _ADDRESS / "0.14.2" / "linux_amd64"
    assert (published / "terraform-provider-time_v0.14.2").read_bytes() == b"binary"
    assert mirror.publish(two, lock_file) == []


def test_a_lock_file_made_elsewhere_is_completed(tmp_path: Path, lock_file: Path) -> None:
    mirror = ProviderMirror(tmp_path / "mirror")
    mirror.publish(_install(tmp_path / "one"), lock_file)
    own = package_hash(tmp_path / "mirror" / _ADDRESS / "0.14.2" / "linux_amd64")
    mirror.complete_lock(lock_file)
    time, null = read_lock(lock_file.read_text())
    assert time.hashes == {own, "h1:foreign=", "zh:1111", "zh:2222"}
    assert null.hashes == {"zh:9999"}
    text = lock_file.read_text()
    mirror.complete_lock(lock_file)
    assert lock_file.read_text() == text


def test_a_lock_file_for_other_packages_is_not_completed(tmp_path: Path, lock_file: Path) -> None:
    """The same version with none of the known zip hashes is another package: a forgery."""
    mirror = ProviderMirror(tmp_path / "mirror")
    mirror.publish(_install(tmp_path / "one"), lock_file)
    lock_file.write_text(_LOCK.replace("1111", "3333").replace("2222", "4444"))
    text = lock_file.read_text()
    mirror.complete_lock(lock_file)
    assert lock_file.read_text() == text


def test_the_upstream_mirror_stays_its_owners(tmp_path: Path, lock_file: Path) -> None:
    upstream = tmp_path / "upstream"
    real = upstream / _ADDRESS / "0.14.2" / "linux_amd64"
    real.mkdir(parents=True)
    binary = real / "terraform-provider-time_v0.14.2"
    binary.write_bytes(b"binary")
    binary.chmod(0o755)
    link = tmp_path / ".terraform" / "providers" / _ADDRESS / "0.14.2" / "linux_amd64"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    mirror = ProviderMirror(tmp_path / "mirror", upstream)
    mirror.publish(tmp_path / ".terraform", lock_file)
    assert binary.stat().st_mode & 0o777 == 0o755
    assert link.resolve().is_relative_to(tmp_path / "mirror")
    os.truncate(binary, 0)  # updated in place, as people do
    assert (link / binary.name).read_bytes() == b"binary"


def test_package_hashes_are_gos(tmp_path: Path) -> None:
    """`golang.org/x/mod/sumdb/dirhash` of two files, computed there."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "a").write_text("hello\n")
    (tmp_path / "docs" / "b").write_text("world\n")
    expected = (
        "h1:"
        + base64.b64encode(
            hashlib.sha256(
                b"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  a\n"
                b"e258d248fda94c63753607f7c4494ee0fcbe92f1a76bfdac795c9d84101eb317  docs/b\n"
            ).digest()
        ).decode()
    )
    assert package_hash(tmp_path) == expected


def test_the_cli_configuration_names_what_may_be_used(tmp_path: Path) -> None:
    own = ProviderMirror(tmp_path / "mirror").cli_config(own_only=True)
    assert str(tmp_path / "mirror") in own and "direct" not in own
    assert "direct {}" in ProviderMirror(tmp_path / "mirror").cli_config(own_only=False)
    both = ProviderMirror(tmp_path / "mirror", Path("/up")).cli_config(own_only=False)
    assert '"/up"' in both and "direct" not in both


def test_half_published_packages_do_not_stay(tmp_path: Path) -> None:
    old, young = tmp_path / "mirror" / ".new-old", tmp_path / "mirror" / ".new-young"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    ProviderMirror(tmp_path / "mirror")
    assert not old.exists() and young.exists()
