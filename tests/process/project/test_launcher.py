"""The one-command platform: whenever it is interrupted, no process stays behind."""

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from config import embedded
from config.launch import BASE_DIR

#: Starts a platform in the folder named, says each step, and then waits.
PROGRAM = """
import sys
from pathlib import Path
from config.launch import Platform, free_port

platform = Platform(Path(sys.argv[1]), free_port(), say=lambda line: print(line, flush=True))
try:
    with platform.running():
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
    directory = tmp_path / "platform"
    yield directory
    data = embedded.data_directory(directory / "postgres")
    embedded.stop(directory / "postgres")
    shutil.rmtree(data, ignore_errors=True)


def left(directory):
    """Return the processes of a platform: those of its environment, and its PostgreSQL."""
    data = str(embedded.data_directory(directory / "postgres"))
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = process.info["cmdline"] or []
        try:
            environment = process.environ()
        except psutil.Error:
            environment = {}
        own = environment.get("SLIPWAY_AGENT_DIRECTORY") or environment.get(
            "SLIPWAY_WORK_DIRECTORY", ""
        )
        if data in words or own.startswith(f"{directory}/"):
            found.append(words)
    return found


@pytest.mark.parametrize("moment", ["Starting PostgreSQL", "Preparing the database", "Ready"])
def test_an_interrupted_platform_leaves_no_process(directory, moment):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)],
        cwd=BASE_DIR,
        env=environment,
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
