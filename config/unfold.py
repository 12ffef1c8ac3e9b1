"""How the admin looks and what its sidebar holds (django-unfold).

Unfold resolves dotted names and functions of the request by itself; nothing is imported here,
because settings are read before the apps are loaded.
"""

from collections.abc import Callable
from typing import Any


def _static(path: str) -> Callable[[Any], str]:
    def address(request: Any) -> str:
        from django.templatetags.static import static

        return static(path)

    return address


def _page(name: str) -> Callable[[Any], str]:
    def address(request: Any) -> str:
        from django.urls import reverse

        return reverse(name)

    return address


_NAVIGATION = "tasks_app.admin.navigation."


def _item(
    title: str, icon: str, model: str, permission: str = "sees", **more: str
) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": _page(f"admin:{model}_changelist"),
        "permission": _NAVIGATION + permission,
        **more,
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Slipway",
    "SITE_HEADER": "Slipway",
    "SITE_SUBHEADER": "Plan, confirm, applied",
    "SITE_SYMBOL": "sailing",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _static("slipway/icon.svg")}
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "STYLES": [_static("slipway/slipway.css")],
    "SCRIPTS": [
        _static("slipway/live.js"),
        _static("slipway/dialog.js"),
        _static("slipway/log.js"),
    ],
    "COLORS": {
        "primary": {
            "50": "#eef4fe",
            "100": "#e0ecfd",
            "200": "#c2d9fb",
            "300": "#9cc1f8",
            "400": "#8ab8ff",
            "500": "#8ab8ff",
            "600": "#1a56b0",
            "700": "#174a97",
            "800": "#163f7e",
            "900": "#16335f",
            "950": "#0f2140",
        },
        "font": {
            "subtle-light": "#566274",
            "subtle-dark": "#a3afbf",
            "default-light": "#3b4756",
            "default-dark": "#ccd5e0",
            "important-light": "#1f2733",
            "important-dark": "#e9eef5",
        },
    },
    "DASHBOARD_CALLBACK": "tasks_app.admin.dashboard.context",
    "COMMAND": {"search_callback": _NAVIGATION + "search", "show_history": False},
    "SIDEBAR": {
        "show_search": False,
        "command_search": True,
        "show_all_applications": False,
        "navigation": [
            {
                "items": [
                    {
                        "title": "Overview",
                        "icon": "space_dashboard",
                        "link": _page("admin:index"),
                    }
                ]
            },
            {
                "title": "Work",
                "items": [
                    _item(
                        "Tasks",
                        "play_circle",
                        "tasks_app_task",
                        badge=_NAVIGATION + "to_confirm",
                        badge_variant="warning",
                    ),
                    _item("Workspaces", "deployed_code", "tasks_app_workspace"),
                    _item("Projects", "folder", "tasks_app_project"),
                    _item("Shared variables", "data_object", "tasks_app_variable"),
                ],
            },
            {
                "title": "Capacity",
                "items": [
                    _item("Pools", "hub", "pods_app_pool"),
                    _item("Pods", "memory", "pods_app_managedpod"),
                    {
                        "title": "Slot grid",
                        "icon": "grid_view",
                        "link": _page("admin:pods_app_managedpod_grid"),
                        "permission": _NAVIGATION + "sees",
                    },
                    _item("Slots", "view_module", "pods_app_podslot"),
                    _item("Agents", "smart_toy", "agents_app_agent"),
                    _item("Freezes", "event_busy", "pods_app_freezewindow"),
                    _item("Leases", "vpn_key", "pods_app_lease"),
                    _item("Work directories", "folder_managed", "pods_app_workdirectory"),
                ],
            },
            {
                "title": "History",
                "items": [
                    _item("Events", "history", "tasks_app_event"),
                    _item("Freeze notices", "campaign", "pods_app_freezenotice", "operates"),
                    _item("State locks", "lock", "tasks_app_statelock"),
                ],
            },
            {
                "title": "People and jobs",
                "items": [
                    _item("My API tokens", "key", "knox_authtoken", "anybody"),
                    _item("Users", "person", "auth_user", "superuser"),
                    _item("Groups", "group", "auth_group", "superuser"),
                    _item("Roles", "badge", "tasks_app_roleassignment"),
                    _item("Schedules", "event_repeat", "django_q_schedule", "operates"),
                    _item("Failed jobs", "sms_failed", "django_q_failure", "operates"),
                ],
            },
        ],
    },
}
