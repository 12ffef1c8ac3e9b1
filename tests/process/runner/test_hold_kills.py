"""Whoever dies, and whenever, between the start of a held apply and its end: at most one apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.runner.conftest import MakeBench
from tests.support.hold_kills import kill_at_random
from tests.support.http_state import HttpState
from tests.support.runner import append, backend

_SEEDS = 8


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_kills_at_random_moments(
    make_bench: MakeBench,
    state_server: HttpState,
    counter: Path,
    pytestconfig: pytest.Config,
    seed: int,
) -> None:
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    kills = pytestconfig.getoption("hold_kills") // _SEEDS
    kill_at_random(bench, state_server, counter, seed=seed, kills=kills)
