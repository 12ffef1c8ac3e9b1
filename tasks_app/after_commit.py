"""What is tried right after a commit, and made good by a later pass where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction


def after_commit(function: Callable[..., Any], *args: Any) -> None:
    """Call ``function`` once the transaction is committed; now, if there is none.

    What it raises is logged and is never the caller's failure, whose work is committed.
    """
    # No partial: Django's log line asks for a name, and would fail for want of one.
    transaction.on_commit(lambda: function(*args), robust=True)
