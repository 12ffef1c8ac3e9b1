"""What every kind of hosting can do with a pod."""

from typing import Protocol

from pods_app.models import ManagedPod, Pool


class Hosting(Protocol):
    """Creates, deletes and lists pods. Every call may be repeated."""

    def create(self, pool: Pool, pod: ManagedPod, token: str) -> None:
        """Start the pod's agent; ``token`` lets it register in the pool."""
        ...

    def delete(self, pod: ManagedPod) -> None:
        """End the pod: its agent drains and stops."""
        ...

    def alive(self, pod: ManagedPod) -> bool:
        """Return whether the pod's agent runs."""
        ...
