"""What django-q2 runs on schedule: short, idempotent, single-flight, never Terraform."""

from django.conf import settings

from pods_app import controller as controller_module
from pods_app.freeze.notices import channels, passes
from pods_app.queue import dispatch_pass
from pods_app.reconcile import reconcile_all
from pods_app.warmups import expire_pass, warm_pass
from pods_app.work_directories import cleanup
from tasks_app.single_flight import single_flight

#: A job's lease outlives the job: a worker is killed at django-q2's time-out.
_SECONDS: float = settings.Q_CLUSTER["timeout"] + 5


def dispatch() -> int:
    """Place waiting tasks; returns how many got a lease."""
    with single_flight("job: dispatch", _SECONDS) as mine:
        return dispatch_pass() if mine else 0


def warm_up() -> int:
    """Renew or end what lies ready, and make ready what does not; returns how many began."""
    with single_flight("job: warm-up", _SECONDS) as mine:
        if not mine:
            return 0
        expire_pass()
        return warm_pass()


def controller_pass() -> bool:
    """Do one pass of what the controller does, unless another job is at it.

    Beside a living controller it does no harm, and without one it is sufficient.
    """
    with single_flight("job: controller pass", _SECONDS) as mine:
        if mine:
            controller_module.controller_pass()
        return mine


def reconcile_pods() -> int:
    """Bring the pools' pods in line, those in a cluster too; returns how many differences."""
    with single_flight("job: reconcile pods", _SECONDS) as mine:
        return len(reconcile_all()) if mine else 0


def send_notices() -> int:
    """Tell operators of freezes; returns how many messages arrived. Free without a channel."""
    if not channels.configured():
        return 0
    with single_flight("job: notices", _SECONDS) as mine:
        return passes.notice_pass() if mine else 0


def cleanup_work_directories() -> int:
    """Ask agents to delete directories that are over; returns how many."""
    with single_flight("job: cleanup", _SECONDS) as mine:
        return sum(decision.delete for decision in cleanup()) if mine else 0
