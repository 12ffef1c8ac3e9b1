"""The path of an apply as a pure function of what is known before it.

The order is that of `agents_app/runner/apply.py`: held, kept, warmed, normal. What the agent
will find is not known here: a directory that was damaged since costs the apply its faster path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pods_app.states import RESERVING, ApplyPath, LeasePhase
from tasks_app.states import WarmupStatus


@dataclass(frozen=True)
class Stay:
    """One lease of the task.

    Args:
        agent: the name of its pod.
        live: it may be promoted to the apply.
        ending: it may not, and its agent has not let go yet.
        doubt: its agent missed heartbeats.
        planned: the plan was made in it.
        gone: what became of its pod, "" if it is there: ``is lost``.
    """

    agent: str
    phase: str = LeasePhase.HOLD
    live: bool = False
    ending: bool = False
    held: bool = False
    hold_reason: str = ""
    restored: bool = False
    doubt: bool = False
    planned: bool = False
    gone: str = ""
    end_reason: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of a plan that waits.

    Args:
        stays: oldest first.
        directories: agents that keep one of the task, each with why it takes no work, or "".
        place: the agent that would be given the apply if no lease holds it.
        no_place: why there is none, as a sentence without a full stop.
        again: the failed warm-up will be tried again.
        kept_warm: the time for that is not over.
        bundle_stored: the server has a copy of the plan.
        waits: what else the confirmed apply would wait for, as a sentence without a full stop.
    """

    stays: tuple[Stay, ...] = ()
    directories: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    no_place: str = ""
    warmup: str = WarmupStatus.NONE
    warmup_error: str = ""
    again: bool = False
    kept_warm: bool = True
    bundle_stored: bool = True
    waits: str = ""


@dataclass(frozen=True)
class WhyNot:
    """Why a faster path would not be taken, as one sentence."""

    path: ApplyPath
    sentence: str


@dataclass(frozen=True)
class Forecast:
    """How the apply would start.

    Args:
        path: None if the plan cannot be applied any more.
        agent: the name of the pod, "" if it is not known yet.
        sentence: for people.
        why_not: the faster paths, fastest first.
        waits: what it would wait for first, "" for nothing.
    """

    path: ApplyPath | None
    agent: str
    sentence: str
    why_not: tuple[WhyNot, ...] = ()
    waits: str = ""


def forecast(facts: Facts) -> Forecast:
    """Return the path that a confirmation now would take."""
    stay = facts.stays[-1] if facts.stays else None
    if stay is not None and stay.live and stay.phase in RESERVING:
        return _from_reservation(facts, stay)
    return _from_nothing(facts)


def _from_reservation(facts: Facts, stay: Stay) -> Forecast:
    """An agent has the task in a slot: the confirmation promotes that lease."""
    agent, warming = stay.agent, stay.phase == LeasePhase.WARMUP
    own = _is_own(facts, agent) if warming else not stay.restored
    if stay.held:
        path, words = ApplyPath.HELD, f"Will start from the held Terraform on agent {agent}."
    elif own:
        after = " once it is proved unchanged" if warming else ""
        path, words = ApplyPath.KEPT, f"Will start from the kept directory on agent {agent}{after}."
    else:
        after = " once its warm-up ends" if warming else ""
        words = f"Will start from the warmed directory on agent {agent}{after}."
        path = ApplyPath.WARMED
    if stay.doubt:
        words += " That agent missed its last heartbeats; if it is lost, another one takes over."
    why_not = []
    if path != ApplyPath.HELD:
        why_not.append(WhyNot(ApplyPath.HELD, _not_held_by(stay)))
    if path == ApplyPath.WARMED:
        why_not.append(WhyNot(ApplyPath.KEPT, _not_kept(facts)))
    return Forecast(path, agent, words, tuple(why_not), facts.waits)


def _from_nothing(facts: Facts) -> Forecast:
    """No agent has it in a slot: the confirmation looks for one."""
    waits = facts.waits or facts.no_place
    if facts.place in facts.directories:
        own = _is_own(facts, facts.place)
        path, kind = (ApplyPath.KEPT, "kept") if own else (ApplyPath.WARMED, "warmed")
        words = f"Will start from the {kind} directory on agent {facts.place}, in a free slot."
        why_not = [WhyNot(ApplyPath.HELD, f"Not held: {_nobody(facts)}.")]
        if not own:
            why_not.append(WhyNot(ApplyPath.KEPT, _not_kept(facts)))
        return Forecast(path, facts.place, words, tuple(why_not), waits)
    why_not = [
        WhyNot(ApplyPath.HELD, "Not held: no directory is ready in which Terraform could wait."),
        WhyNot(ApplyPath.KEPT, _not_kept(facts)),
        WhyNot(ApplyPath.WARMED, f"Not warmed: {_no_warmed(facts)}."),
    ]
    if not facts.bundle_stored:
        words = (
            "Cannot be applied now: the plan was too large for the server to keep, and no agent "
            "with room has its directory. Wait for that agent, or plan again."
        )
        return Forecast(None, "", words, tuple(why_not), waits)
    where = f" on agent {facts.place}" if facts.place else ""
    words = (
        f"Will start by the normal path{where}: the directory is restored from the server's copy "
        "after the confirmation."
    )
    return Forecast(ApplyPath.NORMAL, facts.place, words, tuple(why_not), waits)


def _is_own(facts: Facts, agent: str) -> bool:
    """Return whether an agent's directory is the one in which the plan was made."""
    stays = [stay for stay in facts.stays if stay.agent == agent]
    kept = agent in facts.directories and any(stay.planned for stay in stays)
    return kept and not any(stay.restored for stay in stays)


def _not_held_by(stay: Stay) -> str:
    if stay.phase == LeasePhase.WARMUP:
        return f"Not held: agent {stay.agent} is still warming it up."
    if stay.hold_reason:
        told = stay.hold_reason.startswith("Not held")
        return stay.hold_reason if told else f"Not held: {stay.hold_reason}"
    return f"Not held: agent {stay.agent} has not told yet that Terraform waits."


def _not_kept(facts: Facts) -> str:
    planner = next((stay for stay in facts.stays if stay.planned), None)
    if planner is None:
        return "Not kept: the plan was made elsewhere."
    agent = planner.agent
    if _is_own(facts, agent):
        why = facts.directories[agent] or "has no free slot"
        return f"Not kept: agent {agent}, which has the plan's directory, {why}."
    if any(stay.restored and stay.agent == agent for stay in facts.stays):
        return f"Not kept: the plan's directory on agent {agent} was changed and set aside."
    what = planner.gone or "does not have its directory any more"
    return f"Not kept: agent {agent}, which planned it, {what}."


def _no_warmed(facts: Facts) -> str:
    for agent, why in facts.directories.items():
        if not _is_own(facts, agent):
            return f"agent {agent}, which has a warmed directory, {why or 'has no free slot'}"
    return _nobody(facts)


def _nobody(facts: Facts) -> str:
    """Say, without a full stop, why no agent has the plan ready in a slot."""
    error = facts.warmup_error.rstrip(".")
    if facts.warmup == WarmupStatus.FAILED:
        then = "and is tried again" if facts.again else "and is not tried again by itself"
        return f"the warm-up failed ({error}) {then}" if error else f"the warm-up failed {then}"
    if not facts.kept_warm:
        return "the time for which it is kept warm is over"
    stay = facts.stays[-1] if facts.stays else None
    if facts.warmup == WarmupStatus.EXPIRED:
        when = f"agent {stay.agent} let go" if stay and stay.ending else "an agent has room"
        return f"the warm-up expired; the next one begins as soon as {when}"
    if stay is not None and stay.gone:
        return f"agent {stay.agent}, which had it, {stay.gone}"
    if stay is not None and stay.end_reason:
        return f"agent {stay.agent} gave its slot back: {stay.end_reason.rstrip('.')}"
    return "no agent was given its warm-up yet"
