"""Encryption at rest: AES-256-GCM with a ring of keys, so that keys can rotate.

The first key encrypts; every key decrypts. Each row stores the id of its key.
"""

from __future__ import annotations

import hmac
import secrets
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from tasks_app.exceptions import DecryptionFailed

_NONCE_BYTES = 12


class KeyRing:
    """Named keys of 32 bytes each; the first is the primary one."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise ValueError("a key ring needs at least one key")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._signing_keys = {
            key_id: hmac.digest(key, b"slipway signing", "sha256") for key_id, key in keys.items()
        }
        self.key_ids = tuple(keys)
        self.primary = self.key_ids[0]

    def encrypt(self, plain: bytes, context: str) -> bytes:
        """Return nonce and ciphertext under the primary key.

        Args:
            context: what the content belongs to; decrypting needs the same.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[self.primary].encrypt(nonce, plain, context.encode())

    def decrypt(self, ciphertext: bytes | memoryview, key_id: str, context: str) -> bytes:
        """Return the plain content.

        Raises:
            DecryptionFailed: unknown key, other context, or altered content.
        """
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecryptionFailed(
                f"A stored content needs the encryption key “{key_id}”; add it to "
                "SLIPWAY_ENCRYPTION_KEYS."
            )
        data = bytes(ciphertext)
        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise DecryptionFailed() from None

    def encrypt_row(self, row: Any, plain: bytes) -> None:
        """Set the ciphertext and key id of an `EncryptedRow`; saving it is the caller's."""
        setattr(row, row.ciphertext_field, self.encrypt(plain, row.encryption_context))
        row.key_id = self.primary

    def decrypt_row(self, row: Any) -> bytes:
        """Return the plain content of an `EncryptedRow`.

        Raises:
            DecryptionFailed: as :meth:`decrypt`.
        """
        ciphertext = getattr(row, row.ciphertext_field)
        return self.decrypt(ciphertext, row.key_id, row.encryption_context)

    def sign(self, message: str) -> str:
        """Return ``<key id>.<mac>``: proof that this installation wrote ``message``."""
        mac = hmac.digest(self._signing_keys[self.primary], message.encode(), "sha256")
        return f"{self.primary}.{mac.hex()}"

    def verify(self, message: str, signature: str) -> bool:
        """Return whether ``signature`` was made by :meth:`sign` with any key of the ring."""
        key_id, _, mac = signature.rpartition(".")
        key = self._signing_keys.get(key_id)
        if key is None:
            return False
        return hmac.compare_digest(
            hmac.digest(key, message.encode(), "sha256").hex().encode(), mac.encode()
        )


@lru_cache(maxsize=4)
def _ring(keys: tuple[tuple[str, bytes], ...]) -> KeyRing:
    return KeyRing(dict(keys))


def keyring() -> KeyRing:
    """Return the installation's key ring (``settings.SLIPWAY.encryption_keys``)."""
    return _ring(tuple(settings.SLIPWAY.encryption_keys.items()))
