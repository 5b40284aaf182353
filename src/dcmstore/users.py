"""a file of users <-> who they are: names and passcodes that senders may give (PS3.7 D.3.3.7), stored hashed.

A line a user: `name: scrypt salt key`, both in hexadecimal digits. `dcmstore user` writes it.
"""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from dcmstore.errors import ConfigurationError, reason_of

MAX_PASSCODE = 1024  # bytes; the item could hold 65535, and each is hashed
NAME_ALLOWED = "1 to 64 printable characters without ':'"

# The work of one attempt: 16 MB of memory and some 50 ms, for whoever asks and for whoever has stolen the file.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_SALT = 16  # bytes
_KEY = 32  # bytes
_one_at_a_time = threading.Lock()  # many senders at once would else take the memory of as many attempts


def check_name(name: str) -> None:
    """Raises ConfigurationError unless the name is as NAME_ALLOWED says."""
    if not 1 <= len(name) <= 64 or not name.isprintable() or ":" in name or name != name.strip():
        raise ConfigurationError(f"NAME {name!r}: allowed is {NAME_ALLOWED}")


class Users:
    """Names with the salt and the key of each passcode."""

    def __init__(self, keys: Mapping[str, tuple[bytes, bytes]]) -> None:
        self._keys = dict(keys)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    @property
    def names(self) -> list[str]:
        return sorted(self._keys)

    def verify(self, name: str, passcode: bytes) -> bool:
        """Whether this is the user's passcode. An unknown name takes as long as a known one."""
        salt, key = self._keys.get(name, (bytes(_SALT), b""))
        return len(passcode) <= MAX_PASSCODE and hmac.compare_digest(_key_of(passcode, salt), key)

    def with_user(self, name: str, passcode: bytes) -> "Users":
        salt = secrets.token_bytes(_SALT)
        return Users({**self._keys, name: (salt, _key_of(passcode, salt))})

    def without(self, name: str) -> "Users":
        return Users({kept: keys for kept, keys in self._keys.items() if kept != name})

    def lines(self) -> str:
        return "".join(f"{name}: scrypt {salt.hex()} {key.hex()}\n" for name, (salt, key) in sorted(self._keys.items()))


def read(path: Path) -> Users:
    """Raises ConfigurationError with one line that names file, line and what is allowed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        advice = "`dcmstore user add NAME` makes it" if isinstance(error, FileNotFoundError) else "see to that file"
        raise ConfigurationError(f"{path}: can't be read: {reason_of(error)}; {advice}") from None
    keys = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            method, salt, key = rest.split()
            keys[name] = (bytes.fromhex(salt), bytes.fromhex(key))
            if method != "scrypt" or len(keys[name][1]) != _KEY:
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"{path}, line {number}: allowed is a line that `dcmstore user add NAME` writes"
            ) from None
    return Users(keys)


def _key_of(passcode: bytes, salt: bytes) -> bytes:
    with _one_at_a_time:
        return hashlib.scrypt(passcode, salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=_KEY)
