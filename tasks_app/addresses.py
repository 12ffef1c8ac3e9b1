"""Resource addresses, as the options targets and replace take them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks_app.exceptions import InvalidInput

#: Names joined by dots, each with indexes or keys: never an option, free text only in keys.
_ADDRESS = re.compile(
    r"""[^\W\d][\w-]*(?:\.[^\W\d][\w-]*|\[\d+\]|\["(?:[^"\\\x00-\x1f]|\\.)+"\])*"""
)
_LENGTH_MAX = 500
_COUNT_MAX = 200


def check_addresses(field: str, addresses: Sequence[str]) -> None:
    """Refuse what is not a list of resource addresses.

    Raises:
        InvalidInput: names ``field``.
    """
    if len(addresses) > _COUNT_MAX:
        raise InvalidInput(f"At most {_COUNT_MAX} addresses.", field=field)
    for address in addresses:
        if (
            not isinstance(address, str)
            or len(address) > _LENGTH_MAX
            or not _ADDRESS.fullmatch(address)
        ):
            raise InvalidInput(
                f"“{str(address)[:80]}” is not a resource address; write it as in "
                'module.a.aws_instance.b["c"].',
                field=field,
            )
