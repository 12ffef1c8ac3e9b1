"""Warm-ups: where a plan that waits is made ready, what its agent says of it, and how it ends.

A warm-up is a lease (`pods_app.leases`); what a person may count on stands on the task
(`tasks_app.services.warmups`) and follows the lease: both are written in one transaction.
"""

from pods_app.warmups.expiry import expire_pass
from pods_app.warmups.placing import warm_pass
from pods_app.warmups.reports import Report, warmup_reported

__all__ = ["Report", "expire_pass", "warm_pass", "warmup_reported"]
