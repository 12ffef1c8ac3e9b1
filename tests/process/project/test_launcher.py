"""The one-command platform: whenever it is interrupted, no process stays behind."""

import signal
import subprocess
import sys

import pytest

from config.launch import BASE_DIR
from tests.support.demo import forget, left, surroundings

#: Starts a platform in the folder named, says each step, and then waits.
PROGRAM = """
import os
import sys
from pathlib import Path
from config.launch import Platform, free_port

platform = Platform(Path(sys.argv[1]), free_port(), say=lambda line: print(line, flush=True))
try:
    with platform.running():
        os.environ.update(platform.environment)  # as a benchmark does, for its own Django
        print("Ready", flush=True)
        while True:
            platform.check()
            platform.stop.wait(1)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def directory(tmp_path):
    """A folder for a platform, whose database is deleted afterwards."""
    yield tmp_path / "platform"
    forget(tmp_path / "platform")


@pytest.mark.parametrize("moment", ["Starting PostgreSQL", "Preparing the database", "Ready"])
def test_an_interrupted_platform_leaves_no_process(directory, moment):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)],
        cwd=BASE_DIR,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        said = []
        for line in program.stdout:
            said.append(line.strip())
            if said[-1] == moment:
                break
        assert said[-1:] == [moment], said
        if moment == "Ready":
            assert len(left(directory)) >= 4  # web, worker, controller, PostgreSQL
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=150)
    assert program.returncode == 130
    assert left(directory) == []
