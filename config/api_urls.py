"""The REST API: one router that every app adds its routes to, and its documentation."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import DefaultRouter

from agents_app.api import routes as agents_routes
from pods_app.api import routes as pods_routes
from tasks_app.api import routes as tasks_routes
from tasks_app.api.unknown import UnknownAddress

router = DefaultRouter()
router.include_format_suffixes = False
for routes in (tasks_routes, pods_routes, agents_routes):
    routes.register(router)

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    # The variant without inline scripts: the content security policy forbids those.
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("", include(router.urls)),
    re_path("^.*$", UnknownAddress.as_view()),
]
