"""Pure: how many pods a pool wants, why, and why a pod it could do without stays.

More pods are wanted at once. Fewer are wanted at once as well, but a pod goes only when all its
slots have been idle for the pool's delay; until then it stays, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks_app.formats import seconds_words


@dataclass(frozen=True)
class Demand:
    """Slots that work needs, or will as soon as it finds one; no task counts twice."""

    running: int = 0  # slots in which something runs
    confirmed: int = 0  # confirmed applies without a slot
    kept_warm: int = 0  # reserved slots, and plans that are to be kept warm without one
    startable: int = 0  # pending tasks that only lack a slot

    @property
    def slots(self) -> int:
        return self.running + self.confirmed + self.kept_warm + self.startable


@dataclass(frozen=True)
class Limits:
    """What operators set."""

    slots_per_pod: int = 3
    min_pods: int = 0
    max_pods: int = 10
    spare_slots: int = 0
    delay_seconds: float = 300.0  # a pod is idle for so long before it goes


@dataclass(frozen=True)
class Pod:
    """A pod that takes work, or will.

    Args:
        running, reserved: slots of it.
        idle_seconds: how long nothing has changed in its slots, or since it was created.
        late: it has not come online within its deadline, and so is no supply.
        draining: it is being ended.
    """

    name: str
    running: int = 0
    reserved: int = 0
    idle_seconds: float = 0.0
    online: bool = True
    late: bool = False
    draining: bool = False


@dataclass(frozen=True)
class Scaling:
    """What a pool wants.

    Args:
        supply: pods that take work or will, those that start within their deadline included.
        starting: of these, so many are not online yet.
        staying: pod name → why it is not scaled down.
    """

    desired: int
    reason: str
    demand: Demand
    supply: int
    starting: int
    staying: dict[str, str]


def scale(demand: Demand, limits: Limits, pods: Iterable[Pod], frozen: str = "") -> Scaling:
    """Return how many pods a pool wants: what its demand needs, within its limits.

    Args:
        pods: those of the pool that are neither lost nor gone.
        frozen: why the pool must have no pods, "" when it may.
    """
    pods = list(pods)
    desired, reason = (0, frozen) if frozen else _desired(demand, limits)
    supply = [pod for pod in pods if not (pod.late or pod.draining)]
    return Scaling(
        desired=desired,
        reason=reason,
        demand=demand,
        supply=len(supply),
        starting=sum(not pod.online for pod in supply),
        staying={} if frozen else _staying(pods, len(supply), desired, limits),
    )


def _desired(demand: Demand, limits: Limits) -> tuple[int, str]:
    wanted = demand.slots + limits.spare_slots
    needed = -(-wanted // limits.slots_per_pod)
    desired = max(limits.min_pods, min(needed, limits.max_pods))
    parts = [
        f"{number} {what}"
        for number, what in (
            (demand.running, "running"),
            (demand.confirmed, "confirmed"),
            (demand.kept_warm, "kept warm"),
            (demand.startable, "waiting to start"),
            (limits.spare_slots, "spare"),
        )
        if number
    ]
    slots = _count(wanted, "slot")
    reason = f"{slots} wanted ({', '.join(parts)})" if parts else "No work"
    if parts:
        reason += f", {limits.slots_per_pod} to a pod: {_count(needed, 'pod')}"
    if desired > needed:
        reason += f"; {desired} at least"
    elif desired < needed:
        reason += f"; {desired} at most"
    return desired, reason


def _staying(pods: Iterable[Pod], supply: int, desired: int, limits: Limits) -> dict[str, str]:
    reasons = {}
    # Of the idle pods, those that were idle for longest go first.
    for pod in sorted(pods, key=lambda pod: (pod.running + pod.reserved > 0, -pod.idle_seconds)):
        if pod.running or pod.reserved:
            reasons[pod.name] = _busy(pod)
        elif pod.late or pod.draining:
            continue
        elif supply <= desired:
            reasons[pod.name] = f"The pool wants {_count(desired, 'pod')} and has no more"
        elif pod.idle_seconds < limits.delay_seconds:
            reasons[pod.name] = (
                f"Idle for {seconds_words(pod.idle_seconds)}; ends after "
                f"{seconds_words(limits.delay_seconds)} without work"
            )
        else:
            supply -= 1
    return reasons


def _busy(pod: Pod) -> str:
    parts = []
    if pod.running:
        parts.append(f"runs {_count(pod.running, 'task')}")
    if pod.reserved:
        words = "apply" if pod.reserved == 1 else "applies"
        parts.append(f"keeps {pod.reserved} {words} ready")
    return " and ".join(parts).capitalize()


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
