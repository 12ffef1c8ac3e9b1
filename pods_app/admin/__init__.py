"""Pools, pods, slots, leases and work directories in the admin, and the panels they add."""

from pods_app.admin import freeze, freeze_pool, panels, pod, pool, runtime, task_panels

__all__ = ["freeze", "freeze_pool", "panels", "pod", "pool", "runtime", "task_panels"]
