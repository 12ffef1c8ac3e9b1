"""Where there is room: pools, pods, slots, leases, permits, work directories."""

from pods_app.models.freeze import FreezeOverride, FreezeTransition, FreezeWindow
from pods_app.models.installation import Installation
from pods_app.models.lease import ApplyPermit, Lease
from pods_app.models.notice import FreezeNotice, NoticeDelivery, NoticeFact
from pods_app.models.pod import ManagedPod, PodSlot
from pods_app.models.pool import Pool, PoolAssignment, PoolCredential, PoolToken, TaskPlacement
from pods_app.models.scaling import ScalingDecision
from pods_app.models.work_directory import WorkDirectory

__all__ = [
    "ApplyPermit",
    "FreezeNotice",
    "FreezeOverride",
    "FreezeTransition",
    "FreezeWindow",
    "Installation",
    "Lease",
    "ManagedPod",
    "NoticeDelivery",
    "NoticeFact",
    "PodSlot",
    "Pool",
    "PoolAssignment",
    "PoolCredential",
    "PoolToken",
    "ScalingDecision",
    "TaskPlacement",
    "WorkDirectory",
]
