"""DcmStore.ini -> one frozen Settings value, checked once, by the table in settings.py."""

import codecs
import contextlib
import difflib
import itertools
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.settings import KEYS, Settings, Spelling, shown
from dcmstore.values import NotAllowed, folder, optional_path

FILE_NAME = "DcmStore.ini"
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMENT = re.compile(r"(?:^|(?<!\s)\s+)[#;].*")  # behind a value; a run of blanks is tried once, not from each of them


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was read: the settings, where each came from, and what a person should know about the file."""

    path: Path
    settings: Settings
    lines: Mapping[str, tuple[int, ...]]  # field -> the line of each value; fields that have their default are absent
    spellings: Mapping[str, str]  # field -> the name under which it stands in that line
    forced: Mapping[str, str]  # field -> the key that switched it on
    warnings: tuple[str, ...]

    def source(self, field_name: str, index: int = 0) -> str:
        """`line 4`, `line 4, num_threads`, `switched on by dicomdir` or `default`; of several values, of the chosen."""
        if field_name in self.forced:
            return f"switched on by {self.forced[field_name]}"
        if field_name not in self.lines:
            return "default"
        spelling = self.spellings[field_name]
        line = f"line {self.lines[field_name][index]}"
        return line + (f", {spelling}" if spelling != KEYS[field_name].name else "")

    def each(self, field_name: str) -> Iterator[tuple[str, str]]:
        """The values of a key that may stand several times, each with what an error about it begins with.

        That is its file, line and key, and the value itself.
        """
        key = KEYS[field_name].name
        for index, value in enumerate(getattr(self.settings, field_name)):
            yield value, f"{self.path}, {self.source(field_name, index)}: {key}= {value!r}"

    def located(self, problem: str) -> str:
        """A problem that begins as `key= …`, with the file and the line of that key in front."""
        name, sign, _ = problem.partition("=")
        if not sign or name.lower() not in _SPELLINGS:
            return problem
        field_name, _ = _SPELLINGS[name.lower()]
        return f"{self.path}, {self.source(field_name)}: {problem}"

    @contextlib.contextmanager
    def locating(self) -> Iterator[None]:
        """Whatever is raised of a setting within, by those who know no file, gets its file and line in front."""
        try:
            yield
        except ConfigurationError as error:
            raise ConfigurationError(self.located(str(error))) from None


# Name in lower case -> field, and the spelling that has this name
_SPELLINGS: dict[str, tuple[str, Spelling]] = {
    spelling.name.lower(): (field_name, spelling) for field_name, key in KEYS.items() for spelling in key.spellings()
}


def read(path: Path) -> Configuration:
    """Read an ini. Raises ConfigurationError with one line that names file, line, key, value and what is allowed."""
    defaults = Settings()
    values: dict[str, Any] = {field_name: getattr(defaults, field_name) for field_name in KEYS}
    lines: dict[str, tuple[int, ...]] = {}
    used: dict[str, str] = {}
    warnings = []
    for number, name, value in _assignments(path):
        if name.lower() not in _SPELLINGS:
            warnings.append(f"{path}, line {number}: unknown key {name!r} is ignored{_nearest(name)}")
            continue
        field_name, spelling = _SPELLINGS[name.lower()]
        used[field_name] = spelling.name
        if not spelling.is_line:
            if field_name in lines:
                text = f"{spelling.name} again; line {lines[field_name][0]} no longer counts"
                warnings.append(f"{path}, line {number}: {text}")
            values[field_name] = _parse(path, number, spelling, value)
            lines[field_name] = (number,)
        elif value:
            before = lines[field_name] if values[field_name] else ()  # else they are those of lines without a value
            lines[field_name] = (*before, number)
            values[field_name] += (_parse(path, number, spelling, value),)
        else:
            lines.setdefault(field_name, (number,))
    beside = path.absolute().parent
    values |= {name: beside / value for name, value in values.items() if isinstance(value, Path)}
    forced = _forced(values)
    settings = Settings(**{**values, **dict.fromkeys(forced, True)})
    warnings += [f"{path}: {text}" for text in _roots_in_one_another(settings)]
    return Configuration(path, settings, lines, used, forced, tuple(warnings))


def _roots_in_one_another(settings: Settings) -> Iterator[str]:
    roots = {"IMG-DIR": settings.img_dir, "RDSR-DIR": settings.rdsr_dir}
    paths = {key: Path(os.path.normcase(os.path.realpath(root))) for key, root in roots.items()}
    for inner, outer in itertools.permutations(paths, 2):
        if paths[outer] in paths[inner].parents:
            first = paths[inner].relative_to(paths[outer]).parts[0]
            text = f"{inner} lies in {outer}, so what belongs into a folder {first!r} there would lie in both"
            yield f"{text}; give each a folder beside the other"


# As the original does it, but for image-name-index: without it the file names would not fit a DICOM medium.
_FORCES = {
    "dicomdir": ("image_name_index", "order_by_study", "order_by_series"),
    "image_name_index": ("order_by_study", "order_by_series"),
}


def _forced(values: Mapping[str, Any]) -> dict[str, str]:
    """Field -> key of the switches that others switch on, and that are not on by themselves."""
    return {
        target: KEYS[name].name
        for name, targets in reversed(_FORCES.items())
        if values[name]
        for target in targets
        if not values[target]
    }


def _assignments(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in lines_of(path, if_absent="`dcmstore init DIR` makes one"):
        name, sign, value = line.partition("=")
        if not sign:
            raise ConfigurationError(f"{path}, line {number}: {line!r} has no '='; allowed is a line 'key= value'")
        yield number, name.strip(), value.strip()


def lines_of(path: Path, *, if_absent: str = "name another file") -> Iterator[tuple[int, str]]:
    """Yield (line number, line) without blanks at its ends; empty lines and comments are left out.

    Raises ConfigurationError with what to do when the file can't be read: `if_absent` when there is none.
    """
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text_of(path, if_absent)), 1):
        line = line.strip()
        if line and not line.startswith(("#", ";")):
            yield number, line


def _text_of(path: Path, if_absent: str) -> str:
    """The file as text: UTF-8 with or without a byte order mark, else Windows-1252, as Notepad writes it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        advice = if_absent if isinstance(error, FileNotFoundError) else _advice_on_reading(path, error)
        raise ConfigurationError(f"{path}: can't be read: {reason_of(error)}; {advice}") from None
    if raw.startswith(_UTF_16_MARKS):
        raise ConfigurationError(f"{path}, line 1: is written in UTF-16; allowed is UTF-8: save it so")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _advice_on_reading(path: Path, error: OSError) -> str:
    if os.path.isdir(path):  # which Windows calls a lack of permission
        return "name the file in that folder"
    if isinstance(error, PermissionError):
        return "let the user that runs dcmstore read it"
    return "see to that disk or share"


def _parse(path: Path, number: int, spelling: Spelling, value: str) -> Any:
    if not spelling.is_line:
        value = _bare(value, is_path=spelling.parse in (folder, optional_path))
    where = f"{path}, line {number}: {spelling.name}= {value!r}"
    try:
        return spelling.parse(value)
    except NotAllowed as error:
        raise ConfigurationError(f"{where}: {error}") from None
    except (ValueError, KeyError):
        raise ConfigurationError(f"{where}: allowed is {spelling.allowed}") from None


def _bare(value: str, *, is_path: bool) -> str:
    """Without the comment behind it, where it is no path, to which all belongs, and without quotes around it."""
    if not is_path:
        value = _COMMENT.sub("", value)
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _SPELLINGS, n=1)
    return f"; the nearest known one is {_SPELLINGS[near[0]][1].name}" if near else ""


def sample() -> str:
    """A complete DcmStore.ini: every key with its default, what is allowed, and its sentence."""
    blocks = [
        "# DcmStore.ini: the settings of dcmstore. One `key= value` a line, in any order.\n"
        "# Lines that begin with # or ; are comments. `dcmstore check` shows what is in force.\n"
    ]
    defaults = Settings()
    for field_name, key in KEYS.items():
        value = getattr(defaults, field_name) if key.in_new_ini is None else key.in_new_ini
        sentences = textwrap.wrap(key.about, 96, break_on_hyphens=False)
        about = "\n".join(f"# {line}" for line in [*sentences, f"Allowed: {key.spelling.allowed}."])
        blocks.append(f"{about}\n{key.name}= {_portable(value)}".rstrip() + "\n")
    return "\n".join(blocks)


def _portable(value: object) -> str:
    return value.as_posix() if isinstance(value, Path) else shown(value)
