"""This app's routes of the REST API."""

from rest_framework.routers import BaseRouter

from agents_app.api import recovered_states
from agents_app.api.agents import AgentViewSet


def register(router: BaseRouter) -> None:
    """Add this app's viewsets."""
    router.register("agents", AgentViewSet, "agent")
    router.register(
        recovered_states.PREFIX, recovered_states.RecoveredStateViewSet, "recovered-state"
    )
