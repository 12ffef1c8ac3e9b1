"""This app's routes of the REST API."""

from rest_framework.routers import BaseRouter

from pods_app.api import freeze_overrides, freezes, pools, scaling
from pods_app.api.pods import PodViewSet, SlotViewSet
from pods_app.api.work_directories import WorkDirectoryViewSet


def register(router: BaseRouter) -> None:
    """Add this app's viewsets."""
    add = router.register
    add("pools", pools.PoolViewSet, "pool")
    add(pools.TOKENS_PREFIX, pools.PoolTokenViewSet, "pool-token")
    add(pools.CREDENTIALS_PREFIX, pools.PoolCredentialViewSet, "pool-credential")
    add(freezes.STATE_PREFIX, freezes.FreezeStateViewSet, "pool-freeze-state")
    add(scaling.DECISIONS_PREFIX, scaling.ScalingDecisionViewSet, "pool-scaling-decision")
    add("freeze-windows", freezes.FreezeWindowViewSet, "freeze-window")
    add("freeze-overrides", freeze_overrides.FreezeOverrideViewSet, "freeze-override")
    add("pods", PodViewSet, "pod")
    add("slots", SlotViewSet, "slot")
    add("work-directories", WorkDirectoryViewSet, "work-directory")
