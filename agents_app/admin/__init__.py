"""Agents in the admin: their health, and locking one out."""

from agents_app.admin import agent

__all__ = ["agent"]
