"""Pools, pods, slots, leases and work directories in the admin, and the panels they add."""

from pods_app.admin import panels, pod, pool, runtime

__all__ = ["panels", "pod", "pool", "runtime"]
