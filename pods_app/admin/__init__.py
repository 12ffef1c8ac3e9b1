"""Pools, pods, slots, leases and work directories in the admin, and the panels they add."""

from pods_app.admin import (
    freeze,
    freeze_pool,
    notices,
    panels,
    pod,
    pool,
    runtime,
    scaling_pool,
    task_panels,
)

__all__ = [
    "freeze",
    "freeze_pool",
    "notices",
    "panels",
    "pod",
    "pool",
    "runtime",
    "scaling_pool",
    "task_panels",
]
