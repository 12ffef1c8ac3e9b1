"""What every kind of hosting can do with a pod."""

from typing import Protocol

from pods_app.models import ManagedPod


class Hosting(Protocol):
    """Creates, deletes and lists pods. Every call may be repeated."""

    #: `kill` may be called for so many pods at once; if more than one, it needs no database.
    kills_at_once: int

    def here(self) -> str:
        """Return the machine whose pods this process can see and start."""
        ...

    def create(self, pod: ManagedPod, token: str) -> None:
        """Start the pod's agent, unless it runs; ``token`` lets it register in its pool."""
        ...

    def renew(self, pod: ManagedPod, token: str) -> None:
        """Give a running agent another token to register with."""
        ...

    def delete(self, pod: ManagedPod) -> bool:
        """Ask the agent to drain and end, once; returns whether it runs."""
        ...

    def kill(self, pod: ManagedPod) -> bool:
        """End the agent and all it started at once; returns whether they are known to be gone.

        Call it while the pod's leases are not over: they name what may run in it.
        """
        ...

    def alive(self, pod: ManagedPod) -> bool:
        """Return whether the pod's agent runs, adopting one that the row does not know."""
        ...

    def last_words(self, pod: ManagedPod) -> str:
        """Return the last line an agent wrote."""
        ...

    def forget(self, pod: ManagedPod) -> None:
        """Remove what a pod that is gone for ever left on its machine."""
        ...
