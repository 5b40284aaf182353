"""ini -> Settings, profile -> SOP classes: config.py and profile.py (invariants 1 and 3)."""

import re
from pathlib import Path
from typing import Any

from dcmstore import config, dcmtk_names, profile, uid_names
from dcmstore.errors import ConfigurationError
from dcmstore.settings import KEYS, Settings, shown
from fuzz import reference
from fuzz.oracle import require

PATH = "/etc/dcmstore/DcmStore.ini"
assert dcmtk_names and uid_names  # imported here, so that they are instrumented and warm


class _File(type(Path())):  # type: ignore[misc]
    """A file that lies in memory."""

    content = b""

    def read_bytes(self) -> bytes:
        return type(self).content


# The limits as the sample ini, which is the documentation of the keys, has them: key -> lowest, highest
_SAMPLE = (Path(__file__).parent.parent.parent / "docs/DcmStore.ini").read_text(encoding="utf-8")
LIMITS = {
    key: (int(low), int(high))
    for low, high, key in re.findall(r"# Allowed: a whole number from (\d+) to (\d+)\.\n([^=\n]+)=", _SAMPLE)
}
_CHOICES = {
    key: set(choices.split(", ")) for choices, key in re.findall(r"# Allowed: one of ([^.]+)\.\n([^=\n]+)=", _SAMPLE)
}  # fmt: skip
assert len(LIMITS) >= 8 and len(_CHOICES) >= 3
# Free text and paths may hold what is not read back without quotes.
_FREE = ("bind", "profile", "tls_certificate", "tls_key", "tls_ca", "tls_crl", "img_dir", "rdsr_dir", "users")
_AS_SHOWN = [name for name in KEYS if name not in _FREE]


def _read(content: bytes) -> config.Configuration | None:
    """The configuration, or None where it is refused in one line that says where and what is allowed."""
    path = _File(PATH)
    _File.content = content
    try:
        return config.read(path)
    except ConfigurationError as error:
        _check_line(str(error))
        require("allowed" in str(error), "an error that does not say what is allowed", str(error))
        return None


def _check_line(text: str) -> None:
    require(text.startswith(PATH + ", line "), "an error or warning that does not say where", text)
    require(len(text.splitlines()) == 1, "an error or warning of several lines", text)


def ini(data: bytes) -> None:
    """Any file is read or refused; what is read is within the documented limits, and reads the same once shown."""
    found = _read(data)
    for other in (data.replace(b"\n", b"\n# remark\n\n"), data.replace(b"\n", b"\r\n")):
        again = _read(other)
        require((found and found.settings) == (again and again.settings), "remarks or line ends change it", again)
    if found is None:
        return
    for warning in found.warnings:
        _check_line(warning)
    settings = found.settings
    for name, key in KEYS.items():
        value: Any = getattr(settings, name)
        if key.name in LIMITS:
            low, high = LIMITS[key.name]
            require(low <= value <= high, "a number that is not allowed", key.name, value)
        if key.name in _CHOICES:
            require(value in _CHOICES[key.name], "a choice that is not allowed", key.name, value)
        if isinstance(value, Path):
            require(value.is_absolute(), "a path that is relative", key.name, value)
    for title in (settings.local_ae, *(item.partition("@")[0] for item in settings.allowed_ae)):
        is_title = 1 <= len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title
        require(is_title and title == title.strip(), "an AE title that PS3.5 6.2 has not", title)
    written = "".join(
        f"{KEYS[name].name}= {shown(value, is_line=KEYS[name].spelling.is_line)}\n"
        for name in _AS_SHOWN
        for value in _lines(settings, name)
    )
    again = _read(written.encode())
    require(again is not None and not again.warnings, "what is shown can't be read", written)
    for name in _AS_SHOWN:
        require(getattr(again.settings, name) == getattr(settings, name), "shown and read again, it is another", name)  # type: ignore[union-attr]


def _lines(settings: Settings, name: str) -> tuple[object, ...]:
    """The values of a key, each of which stands in a line of its own."""
    value = getattr(settings, name)
    return value if KEYS[name].spelling.is_line else (value,)


def presentation_contexts(data: bytes) -> None:
    """Any profile is read or refused in one line; what it accepts are UIDs, each transfer syntax once."""
    found = _read_profile(data)
    for other in (data.replace(b"\n", b"\n# remark\n\n"), data.replace(b"\n", b"\r\n")):
        again = _read_profile(other)
        same = (found and (found.name, found.sop_classes)) == (again and (again.name, again.sop_classes))
        require(same, "remarks or line ends change it", found, again)
    if found is None:
        return
    for warning in found.warnings:
        _check_line(warning)
    require(found.name in found.names, "a profile that the file has not", found)
    for sop_class, syntaxes in found.sop_classes.items():
        require(reference.is_uid(sop_class), "a SOP class that is no UID", sop_class)
        require(bool(syntaxes) and len(set(syntaxes)) == len(syntaxes), "no syntax, or one twice", syntaxes)
        require(all(map(reference.is_uid, syntaxes)), "a transfer syntax that is no UID", syntaxes)


def _read_profile(content: bytes) -> profile.Profile | None:
    path = _File(PATH)
    _File.content = content
    try:
        return profile.read(path)
    except ConfigurationError as error:
        _check_line(str(error))
        advice = ("allowed", "must be there", "needed is")
        require(any(words in str(error) for words in advice), "an error without advice", str(error))
        return None
