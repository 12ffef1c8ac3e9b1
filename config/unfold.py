"""How the admin looks and what its sidebar holds (django-unfold)."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Slipway",
    "SITE_HEADER": "Slipway",
    "SITE_SUBHEADER": "Terraform, applied the moment it is confirmed",
    "SITE_SYMBOL": "sailing",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"show_search": True, "show_all_applications": False},
    "COMMAND": {"search_models": True, "show_history": True},
}
