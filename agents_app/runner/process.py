"""One Terraform process: its own session, output into files, exit status by rename.

A tiny shell supervises each command, so that an agent that restarts on the same machine finds
the process and its true result again. Each command has a folder of its own, which nobody used
before it::

    run/<command>/supervisor   the shell's line of /proc/<pid>/stat: its pid and start
                  pid          written before Terraform starts: its process id
                  stdout       Terraform's output, tailed by offset; never a pipe, whose end
                               would kill it
                  status       the exit code, written to another name and renamed
                  interrupted  the one SIGINT was sent

Without ``pid`` Terraform never ran. It gets at most one signal, SIGINT, and gets it alone: a
second one, or one to the whole group, loses resources (terraform-physics §9). Measured: the
two shells cost 2 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# The inner shell becomes the command, so that the file holds Terraform's own pid. The command
# runs in the foreground: a background job would start with SIGINT ignored. On a full disk
# either file stays empty and the command does not start.
_SUPERVISOR = """
read -r line < "/proc/$$/stat" && echo "$line" > "$1/supervisor" || exit 126
sh -c 'echo $$ > "$0/pid" && exec "$@"' "$@"
code=$?
echo $code > "$1/status.new" && mv "$1/status.new" "$1/status"
exit $code
"""
#: The first action and the end of a short apply are seen at once, a long one costs nothing.
_EAGER_SECONDS, _EAGER_PAUSE, _PAUSE = 5.0, 0.002, 0.05
#: What provisioners left running may use this long to end after Terraform did.
LEFTOVER_SECONDS = 10.0
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


@dataclass(frozen=True)
class ProcessRecord:
    """What identifies a supervisor over a restart of the agent: pid, start in clock ticks."""

    supervisor: int
    started: str


class TerraformProcess:
    """A command in its folder, started by this agent process or by a former one."""

    def __init__(
        self,
        folder: Path,
        record: ProcessRecord,
        popen: subprocess.Popen[bytes] | None = None,
        *,
        tree: int | None = None,
    ) -> None:
        """
        Args:
            tree: a pipe whose other end every process of the command inherits.
        """
        self.folder = folder
        self.record = record
        self._popen = popen
        self._tree = tree
        self._interrupted = False
        #: So many bytes it wrote before it could hear a signal.
        self.deaf_bytes = 0

    @property
    def stdout(self) -> Path:
        return self.folder / "stdout"

    @property
    def stderr(self) -> Path:
        return self.folder / "stderr"

    def dead(self) -> TerraformProcess:
        """Return the same command, known to have no process: the machine was restarted."""
        return TerraformProcess(self.folder, ProcessRecord(-1, ""))

    def ran(self) -> bool:
        """Return whether the command itself was ever reached."""
        return _read_number(self.folder / "pid") is not None

    @property
    def interrupted(self) -> bool:
        """Whether the one signal was sent, by this agent process or a former one."""
        return self._interrupted or (self.folder / "interrupted").exists()

    def interrupt(self) -> None:
        """Ask Terraform, and it alone, once in its life, to stop after what it is doing."""
        pid = _read_number(self.folder / "pid")
        if self._interrupted or pid is None or _session(pid) != self.record.supervisor:
            return
        self._interrupted = True
        try:
            (self.folder / "interrupted").touch(exist_ok=False)
        except FileExistsError:
            return  # by a former agent process
        except OSError:
            pass  # a full disk must not keep anybody from stopping
        _signal(pid, signal.SIGINT)

    def kill(self) -> None:
        """End everything in the session but the supervisor, which still writes the status."""
        for pid in self.members():
            _signal(pid, signal.SIGKILL)

    def members(self) -> list[int]:
        """Return the processes of the session, without the supervisor."""
        leader = start_time(self.record.supervisor)
        if leader is not None and leader != self.record.started:
            return []  # the number serves somebody else by now, so the session is gone
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit()
            and int(name) != self.record.supervisor
            and _session(int(name)) == self.record.supervisor
        ]

    def memory_bytes(self) -> int:
        """Return the memory of the session: the proportional set size, as the kernel counts it."""
        return sum(map(_memory_bytes, self.members()))

    def alive(self) -> bool:
        """Return whether the supervisor runs."""
        if self._popen is not None:
            return self._popen.poll() is None
        return start_time(self.record.supervisor) == self.record.started

    def exit_code(self) -> int | None:
        """Return Terraform's exit code, None if it is not over or its result was lost."""
        code = _read_number(self.folder / "status")
        if code is None and self._popen is not None and self._popen.poll() is not None:
            # The disk had no room for the file; negative: the supervisor itself was killed.
            return self._popen.returncode if self._popen.returncode >= 0 else None
        return code

    def wait(self, each: Callable[[], None]) -> int | None:
        """Wait until the whole process tree is gone, calling ``each`` again and again.

        What provisioners left running is given some time and then ended.

        Returns:
            The exit code; None if the supervisor was killed, so that nobody knows.
        """
        begun = time.monotonic()
        over: float | None = None
        while True:
            pause = _EAGER_PAUSE if time.monotonic() - begun < _EAGER_SECONDS else _PAUSE
            if not self.alive():
                members = self.members()
                if not members and not self._escaped():
                    break
                over = over or time.monotonic()
                pause = _PAUSE
                terraform = _read_number(self.folder / "pid")
                late = time.monotonic() - over
                if terraform not in members and late > LEFTOVER_SECONDS:
                    for pid in {*members, *self._holders()}:
                        _signal(pid, signal.SIGKILL)
                    if not members and late > 2 * LEFTOVER_SECONDS:
                        break  # it fled and cannot be ended: somebody else's by now
            each()
            time.sleep(pause)
        each()
        if self._tree is not None:
            os.close(self._tree)
            self._tree = None
        return self.exit_code()

    def _escaped(self) -> bool:
        """Return whether a process lives that left the session, as daemons do.

        Not known of a command that a former agent process started.
        """
        if self._tree is None:
            return False
        # Nobody writes: it becomes readable when the last process that has the other end is gone.
        poll = select.poll()
        poll.register(self._tree, select.POLLIN)
        return not poll.poll(0)

    def _holders(self) -> list[int]:
        """Return the processes that have the other end, which is this command's alone."""
        if self._tree is None:
            return []
        pipe = os.readlink(f"/proc/self/fd/{self._tree}")
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit()
            and int(name) != os.getpid()
            and _parent(int(name)) != os.getpid()  # another slot's, between fork and exec
            and has_open(int(name), pipe)
        ]


def start(
    folder: Path,
    command: Sequence[str],
    environment: dict[str, str],
    cwd: Path,
    *,
    lock: int,
) -> TerraformProcess:
    """Start a command under its supervisor; returns at once.

    Args:
        folder: made for this command alone.
        lock: descriptor of the directory's lock, which the command inherits.

    Raises:
        OSError: nothing was started.
    """
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        tree, other_end = os.pipe()
        try:
            popen = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "slipway-supervisor", str(folder), *command],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=[lock, other_end],
            )
        except BaseException:
            os.close(tree)
            raise
        finally:
            os.close(other_end)
    record = ProcessRecord(popen.pid, start_time(popen.pid) or "")
    return TerraformProcess(folder, record, popen, tree=tree)


def find(folder: Path) -> TerraformProcess | None:
    """Return the command of a folder, alive or not; None if no supervisor began."""
    try:
        text = (folder / "supervisor").read_text()
    except FileNotFoundError:
        return None
    pid, _, _ = text.partition(" ")
    fields = text.rpartition(")")[2].split()
    if not text.endswith("\n") or not pid.isdigit() or len(fields) < 20:
        return None
    return TerraformProcess(folder, ProcessRecord(int(pid), fields[19]))


def machine_life() -> str:
    """Return what changes when every process is gone: the boot, and the container's processes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def start_time(pid: int) -> str | None:
    """Return a process's start in clock ticks since boot; None if it is gone or a zombie.

    With the pid it names a process for good (proc(5), field 22).
    """
    fields = _stat(pid)
    return None if not fields or fields[0] == "Z" else fields[19]


def reserve_output(folder: Path, size: int) -> None:
    """Reserve disk space for a command's output, which a full disk then cannot swallow.

    Raises:
        OSError: there is not so much space. File systems that cannot reserve are left alone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with (folder / "stdout").open("ab") as stdout:
        if libc.fallocate(stdout.fileno(), _KEEP_SIZE, 0, size) != 0:
            code = ctypes.get_errno()
            if code not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                raise OSError(code, os.strerror(code))


def release_reserve(folder: Path) -> None:
    """Give back what was reserved beyond the output's end; somebody may have deleted it all."""
    stdout = folder / "stdout"
    with contextlib.suppress(FileNotFoundError):
        os.truncate(stdout, stdout.stat().st_size)


def _session(pid: int) -> int | None:
    fields = _stat(pid)
    return None if not fields or fields[0] == "Z" else int(fields[3])


def _memory_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def has_open(pid: int, path: str) -> bool:
    """Return whether a process has a file or pipe open, as far as we may see."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as descriptors:
            return any(os.readlink(one.path) == path for one in descriptors)
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _read_number(path: Path) -> int | None:
    """Return the number in a file that ends with a newline; None if it is not there yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None
