"""What Terraform and its providers talk over."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.configurations import Counter, faulty
from tests.support.platform import Platform
from tests.support.programs import wait_until


@pytest.mark.parametrize("tls", [False, True])
def test_providers_are_spoken_to_without_tls_unless_a_workspace_wants_it(
    platform: Platform, counter: Counter, provider_mirror: Path, tls: bool
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    site = platform.site(faulty(counter, sleep_ms=2000))
    if tls:
        site.set("TF_DISABLE_PLUGIN_TLS", "", category="environment")
    task = site.confirmed(site.plan())

    environments: list[dict[str, str]] = []

    def started() -> bool:
        for terraform in platform.terraforms():
            with suppress(psutil.Error):  # the one that tells the schema ends again at once
                environments.extend(provider.environ() for provider in terraform.children())
        return any("TF_PLUGIN_MAGIC_COOKIE" in one for one in environments)

    wait_until(started, "a provider is started")
    environment = environments[-1]
    assert ("PLUGIN_CLIENT_CERT" in environment) is tls
    assert Path(environment["TMPDIR"]).stat().st_mode & 0o777 == 0o700, "where the socket lies"
    site.wait(task, "applied")
    assert counter.lines == ["slow-0 created"]
