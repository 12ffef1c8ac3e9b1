"""Agents in the admin: their health, locking one out, and states they saved."""

from agents_app.admin import agent, recovered_states

__all__ = ["agent", "recovered_states"]
