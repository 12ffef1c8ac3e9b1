"""Where the state goes: always where the workspace says, whatever the configuration does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.configurations import Counter, counting
from tests.support.platform import Platform

_FOREIGN = """
terraform {
  backend "local" {
    path = "%s"
  }
}
"""


def test_a_foreign_backend_block_is_overridden_by_slipways_state(
    platform: Platform, counter: Counter, tmp_path: Path
) -> None:
    platform.start_agent()
    foreign = tmp_path / "foreign.tfstate"
    site = platform.site({**counting(counter), "backend.tf": _FOREIGN % foreign})
    site.apply(site.plan())
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
    assert not foreign.exists()


def test_a_workspace_may_keep_its_configurations_own_backend(
    platform: Platform, counter: Counter, tmp_path: Path
) -> None:
    platform.start_agent()
    for path in ("held", "normal"):
        foreign = tmp_path / f"{path}.tfstate"
        site = platform.site(
            {**counting(counter), "backend.tf": _FOREIGN % foreign},
            state_backend="configuration",
        )
        task = site.plan()
        if path == "normal":
            shutil.rmtree(site.directory(task))
        site.apply(task)
        assert task.apply_path == path
        assert json.loads(foreign.read_text())["resources"], "the state is where the block says"
        assert site.state == {}
    assert counter.lines == ["counted"] * 2
    assert platform.proxy.count("LOCK") == 0
