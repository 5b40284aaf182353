"""a message and a key -> the headers by which its receiver knows who sent it (Standard Webhooks 1.0)."""

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from dcmstore.errors import ConfigurationError, reason_of

PREFIX = "whsec_"
MIN_KEY, MAX_KEY = 24, 64  # bytes
SECRET_ALLOWED = f"a file with one line: {PREFIX} and {MIN_KEY} to {MAX_KEY} bytes in Base64"


def key_of(path: Path) -> bytes:
    """The key in a file. Raises ConfigurationError without showing any of it."""
    try:
        text = path.read_text(encoding="ascii").strip()
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except OSError as error:
        raise ConfigurationError(
            f"webhook-secret= {path} can't be read: {reason_of(error)}; make it, or let the user that runs dcmstore "
            "read it"
        ) from None
    except (UnicodeDecodeError, binascii.Error):
        raise ConfigurationError(f"webhook-secret= {path} has no Base64 in it; allowed is {SECRET_ALLOWED}") from None
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise ConfigurationError(
            f"webhook-secret= {path} has a key of {len(key)} bytes; allowed is {SECRET_ALLOWED}"
        ) from None
    return key


def headers(message_id: str, seconds: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """Of a message that is sent at this moment of Unix time; without a key, it is not signed."""
    named = {"webhook-id": message_id, "webhook-timestamp": str(seconds)}
    if key is None:
        return named
    signed = b".".join((message_id.encode("ascii"), str(seconds).encode("ascii"), body))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {**named, "webhook-signature": "v1," + base64.b64encode(digest).decode("ascii")}
