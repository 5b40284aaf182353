"""DcmStore.ini -> one frozen Settings value, checked once, by the table in settings.py."""

import difflib
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from dcmstore.errors import ConfigurationError
from dcmstore.settings import Key, Settings, Spelling, keys_in_order, shown

FILE_NAME = "DcmStore.ini"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was read: the settings, where each came from, and what a person should know about the file."""

    path: Path
    settings: Settings
    lines: Mapping[str, int]  # field -> line number; fields that have their default are absent
    spellings: Mapping[str, str]  # field -> the name under which it stands in that line
    forced: Mapping[str, str]  # field -> the key that switched it on
    warnings: tuple[str, ...]

    def source(self, field_name: str) -> str:
        """`line 4`, `line 4, num_threads`, `switched on by dicomdir` or `default`."""
        if field_name in self.forced:
            return f"switched on by {self.forced[field_name]}"
        if field_name not in self.lines:
            return "default"
        key: Key = Settings.__dataclass_fields__[field_name].metadata["key"]
        spelling = self.spellings[field_name]
        return f"line {self.lines[field_name]}" + (f", {spelling}" if spelling != key.name else "")


def _spellings() -> dict[str, tuple[str, Spelling]]:
    return {
        spelling.name.lower(): (field_name, spelling)
        for field_name, key in keys_in_order()
        for spelling in key.spellings()
    }


def read(path: Path) -> Configuration:
    """Read an ini. Raises ConfigurationError with one line that names file, line, key, value and what is allowed."""
    spellings = _spellings()
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    used: dict[str, str] = {}
    warnings = []
    for number, name, value in _assignments(path):
        if name.lower() not in spellings:
            warnings.append(f"{path}, line {number}: unknown key {name!r} is ignored{_nearest(name, spellings)}")
            continue
        field_name, spelling = spellings[name.lower()]
        if field_name in lines:
            warnings.append(f"{path}, line {number}: {spelling.name} again; line {lines[field_name]} no longer counts")
        values[field_name] = _parse(path, number, spelling, value)
        lines[field_name] = number
        used[field_name] = spelling.name
    folder = path.absolute().parent
    for field_name in ("img_dir", "rdsr_dir"):
        default = next(item.default for item in fields(Settings) if item.name == field_name)
        values[field_name] = folder / values.get(field_name, default)
    forced = _forced(values)
    settings = Settings(**{**values, **dict.fromkeys(forced, True)})
    return Configuration(path, settings, lines, used, forced, tuple(warnings))


# As the original does it, but for image-name-index: without it the file names would not fit a DICOM medium.
_FORCES = {
    "dicomdir": ("image_name_index", "order_by_study", "order_by_series"),
    "image_name_index": ("order_by_study", "order_by_series"),
}


def _forced(values: Mapping[str, Any]) -> dict[str, str]:
    """Field -> key of the switches that others switch on, and that are not on by themselves."""
    defaults = Settings()
    return {
        target: name.replace("_", "-")
        for name, targets in reversed(_FORCES.items())
        if values.get(name, False)
        for target in targets
        if not values.get(target, getattr(defaults, target))
    }


def _assignments(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in lines_of(path, advice="; `dcmstore init DIR` makes one"):
        name, sign, value = line.partition("=")
        if not sign:
            raise ConfigurationError(f"{path}, line {number}: {line!r} has no '='; allowed is a line 'key= value'")
        yield number, name.strip(), value.strip()


def lines_of(path: Path, *, advice: str = "") -> Iterator[tuple[int, str]]:
    """Yield (line number, line) without blanks at its ends; empty lines and comments are left out.

    Raises ConfigurationError, with the advice at its end, when the file can't be read.
    """
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text_of(path, advice)), 1):
        line = line.strip()
        if line and not line.startswith(("#", ";")):
            yield number, line


def _text_of(path: Path, advice: str) -> str:
    """The file as text: UTF-8 with or without a byte order mark, else Windows-1252, as Notepad writes it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read: {error.strerror}{advice}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _parse(path: Path, number: int, key: Spelling, value: str) -> Any:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    try:
        return key.parse(value)
    except (ValueError, KeyError):
        raise ConfigurationError(f"{path}, line {number}: {key.name}= {value!r}: allowed is {key.allowed}") from None


def _nearest(name: str, spellings: Mapping[str, tuple[str, Spelling]]) -> str:
    near = difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.0)
    return f"; the nearest known one is {spellings[near[0]][1].name}" if near else ""


def sample() -> str:
    """A complete DcmStore.ini: every key with its default, what is allowed, and its sentence."""
    blocks = [
        "# DcmStore.ini: the settings of dcmstore. One `key= value` a line, in any order.\n"
        "# Lines that begin with # or ; are comments. `dcmstore check` shows what is in force.\n"
    ]
    for item in fields(Settings):
        assert item.default is not MISSING
        key: Key = item.metadata["key"]
        sentences = textwrap.wrap(key.about, 96, break_on_hyphens=False)
        about = "\n".join(f"# {line}" for line in [*sentences, f"Allowed: {key.allowed}."])
        blocks.append(f"{about}\n{key.name}= {_portable(item.default)}".rstrip() + "\n")
    return "\n".join(blocks)


def _portable(value: object) -> str:
    return value.as_posix() if isinstance(value, Path) else shown(value)
