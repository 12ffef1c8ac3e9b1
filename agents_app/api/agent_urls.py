"""Addresses of the agents' API, below ``/api/agent/v1/``."""

from django.urls import path, re_path

from agents_app.api import agent_views as views

urlpatterns = [
    path("register", views.register),
    path("heartbeat", views.heartbeat_view),
    path("work", views.work),
    path("leases/<uuid:lease_id>/configuration", views.configuration),
    path("leases/<uuid:lease_id>/artifacts/<str:kind>", views.artifact),
    path("leases/<uuid:lease_id>/log", views.log_view),
    path("leases/<uuid:lease_id>/progress", views.progress_view),
    path("leases/<uuid:lease_id>/warmup", views.warmup_view),
    path("leases/<uuid:lease_id>/permit", views.permit_view),
    path("leases/<uuid:lease_id>/finish", views.finish_view),
    path("leases/<uuid:lease_id>/ended", views.ended_view),
    re_path("^.*$", views.not_found),
]
