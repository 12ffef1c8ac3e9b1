"""Local processes: a pod is an agent process on this machine, the embedded default.

Agents outlive the controller that started them: each is the leader of its own session, and its
process id and start time in the pod's row let the next controller adopt it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from pods_app.models import ManagedPod, Pool

#: What an agent may inherit: enough to find programs and speak to people.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "SSL_CERT_FILE", "SLIPWAY_PROVIDER_MIRROR")


class LocalHosting:
    """Runs `manage.py run_agent` for each pod, its files below ``SLIPWAY_AGENTS_DIRECTORY``."""

    def create(self, pool: Pool, pod: ManagedPod, token: str) -> None:
        """Start the agent and note its process in the pod's row."""
        directory = _directory(pod)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        token_file = directory / "pool-token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {
            "DJANGO_SETTINGS_MODULE": "config.settings.agent",
            "SLIPWAY_URL": settings.SLIPWAY.url,
            "SLIPWAY_POD_NAME": pod.pod_name,
            "SLIPWAY_POD_UID": pod.pod_uid,
            "SLIPWAY_POOL_TOKEN_FILE": str(token_file),
            "SLIPWAY_AGENT_DIRECTORY": str(directory / "state"),
        }
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_agent"]
        with (directory / "agent.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=settings.BASE_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ManagedPod.objects.filter(pk=pod.pk).update(
            process_id=process.pid, process_started=start_time(process.pid) or ""
        )

    def delete(self, pod: ManagedPod) -> None:
        """Ask the agent to drain and end."""
        if self.alive(pod) and pod.process_id:
            os.kill(pod.process_id, signal.SIGTERM)

    def alive(self, pod: ManagedPod) -> bool:
        """Return whether the very process of the row still runs."""
        _reap(pod.process_id)
        started = start_time(pod.process_id) if pod.process_id else None
        return started is not None and started == pod.process_started


def _directory(pod: ManagedPod) -> Path:
    agents: Path = settings.SLIPWAY.agents_directory
    return agents / pod.pod_name


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if there is none.

    Together with the pid it names a process for good (proc(5), field 22). A zombie is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _reap(pid: int | None) -> None:
    """Collect a dead child, if it is ours."""
    if pid:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
