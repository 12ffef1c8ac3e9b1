"""The runner alone, with a real Terraform and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agents_app.runner.engines import LocalEngine
from tests.support.http_state import HttpState, serve_state
from tests.support.runner import Bench, Source, job, local_engine, local_state, tar_gz

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="session")
def engine(terraform: str) -> LocalEngine:
    return local_engine(terraform)


@pytest.fixture
def state_server() -> Iterator[HttpState]:
    with serve_state() as served:
        yield served


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """A file that configurations append a line to, once per real apply."""
    return tmp_path / "counter"


@pytest.fixture
def make_bench(tmp_path: Path, engine: LocalEngine) -> Iterator[MakeBench]:
    """Return a function that makes a bench of a configuration, its state outside."""

    benches: list[Bench] = []

    def make(files: Mapping[str, str], *, upstream: Path | None = None, **changes: Any) -> Bench:
        if changes.get("backend") is None:
            files = {**files, "state.tf": local_state(tmp_path / "terraform.tfstate")}
        source = Source(tar_gz(files))
        changes = {"engine": engine.engine, **changes}
        bench = Bench(tmp_path / "base", source, job(source, **changes), engine, upstream)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.close()
