"""Every address of the server."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from config import health, metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("config.api_urls")),
    path("api/agent/v1/", include("agents_app.api.agent_urls")),
    path("api/state/v1/", include("tasks_app.state_backend.urls")),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
]
