"""UUIDv7: ids that sort by creation and never repeat, even after a restored database.

Made here because the standard library has them only from Python 3.14 on (RFC 9562 §5.7).
"""

import secrets
import time
import uuid


def uuid7() -> uuid.UUID:
    """Return a version 7 UUID: 48 bits of Unix milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
