"""UUIDv7: ids that sort by creation and never repeat, even after a restored database.

Made here because the standard library has them only from Python 3.14 on (RFC 9562 §5.7).
"""

import secrets
import time
import uuid

_MILLISECOND = 1_000_000  # in nanoseconds


def uuid7() -> uuid.UUID:
    """Return a version 7 UUID: 48 bits of Unix milliseconds, 12 of what is over, 62 random ones.

    With the part of a millisecond (RFC 9562 §6.2, method 3) rows that one process makes right
    after each other sort as they were made.
    """
    milliseconds, over = divmod(time.time_ns(), _MILLISECOND)
    value = milliseconds << 80 | 0x7 << 76 | (over << 12) // _MILLISECOND << 64
    return uuid.UUID(int=value | 0x2 << 62 | secrets.randbits(62))
