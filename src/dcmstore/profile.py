"""PresContextCfg.ini -> the SOP classes that are accepted, each with its transfer syntaxes in order of preference.

The file is in the syntax of DCMTK's association negotiation profiles (its asconfig.txt): supersections of sections of
numbered keys. What DCMTK refuses is refused, and so is what can mean nothing, such as a SOP class among transfer
syntaxes, in one line that names file, line and what is allowed. Where DCMTK passes in silence over what was surely
meant to count, such as all that follows a gap in the numbers, it counts here, and a warning says so.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dcmstore import config, uids
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError

FILE_NAME = "PresContextCfg.ini"  # as the original's sample and manual call it
OTHER_FILE_NAME = "PresContext.ini"  # what the original reads: it counts where both are

TRANSFER_SYNTAXES = "TransferSyntaxes"
PRESENTATION_CONTEXTS = "PresentationContexts"
PROFILES = "Profiles"
NEEDED = (TRANSFER_SYNTAXES, PRESENTATION_CONTEXTS, PROFILES)
# Nothing is requested from here and nothing extended is offered, so only that these sections exist is looked at.
PASSED_OVER = ("SCPSCURoleSelection", "ExtendedNegotiation")
REFERENCES = (PRESENTATION_CONTEXTS, *PASSED_OVER)  # keys of a profile, each the name of the supersection it refers to
ROLES = ("SCU", "SCP", "BOTH")

_HEADINGS = ", ".join(f"[[{name}]]" for name in (*NEEDED, *PASSED_OVER))


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile of a file: what is accepted while it is in force."""

    path: Path
    name: str
    line: int
    sop_classes: Mapping[str, tuple[str, ...]]  # UID -> UIDs of transfer syntaxes, the preferred one first
    names: tuple[str, ...]  # of all profiles in the file
    warnings: tuple[str, ...]


def in_force(configuration: Configuration) -> Profile | None:
    """The profile that the file beside the ini gives, or None without such a file. Raises ConfigurationError."""
    folder, name = configuration.path.absolute().parent, configuration.settings.profile
    found = [path for path in (folder / OTHER_FILE_NAME, folder / FILE_NAME) if _may_be_there(path)]
    if found:
        with configuration.locating():
            profile = read(found[0], name)
        ignored = tuple(f"{path}: is ignored, for {found[0].name} is there too" for path in found[1:])
        return replace(profile, warnings=ignored + profile.warnings)
    if name:
        where = f"{configuration.path}, {configuration.source('profile')}"
        raise ConfigurationError(
            f"{where}: profile= {name!r}: allowed is nothing, for there is no {FILE_NAME} beside it"
        )
    return None


def _may_be_there(path: Path) -> bool:
    """False only for a file that surely is not: whoever reads another says what is wrong with it."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read(path: Path, name: str = "") -> Profile:
    """Read the profile of that name, or the first of the file. The whole file must be right.

    Raises ConfigurationError with one line that names file, line, what stands there and what is allowed.
    """
    file = _File(path)
    profiles = _profiles(file, _lists(file, _transfer_syntax_lists(file)))
    names = tuple(section.name for section, _ in profiles.values())
    folded = _folded(name) or next(iter(profiles))
    if folded not in profiles:
        line = file.supersections[_folded(PROFILES)].line
        raise ConfigurationError(f"profile= {name!r}: allowed is {', '.join(names)}, as {path}, line {line} has them")
    section, contexts = profiles[folded]
    sop_classes = _sop_classes(file, contexts)
    return Profile(path, section.name, section.line, sop_classes, names, tuple(file.warnings))


# --- lines -> supersections of sections of entries -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line `key = value`."""

    line: int
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key!r} = {self.value!r}"


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    line: int
    entries: list[_Entry]


@dataclass(frozen=True, slots=True)
class _Supersection:
    name: str
    line: int
    sections: dict[str, _Section]


class _File:
    """What the file has, under folded names, and what a person should know about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.supersections: dict[str, _Supersection] = {}
        last = self._read()
        for name in NEEDED:
            if _folded(name) not in self.supersections:
                known = ", ".join(f"[[{needed}]]" for needed in NEEDED)
                raise self.refusal(last, f"the file ends without [[{name}]]; each of {known} must be there")

    def refusal(self, line: int, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}, line {line}: {problem}")

    def warn(self, line: int, text: str) -> None:
        self.warnings.append(f"{self.path}, line {line}: {text}")

    def sections(self, name: str) -> dict[str, _Section]:
        """The sections of a supersection; none when it is absent."""
        supersection = self.supersections.get(_folded(name))
        return supersection.sections if supersection else {}

    def _read(self) -> int:
        """Fill `supersections`; return the number of the last line that says something."""
        number, supersection, section = 1, None, None
        for number, line in config.lines_of(self.path):
            if line.startswith("["):
                level, name = self._heading(number, line)
                if level == 2:
                    supersection, section = self._supersection(number, name), None
                elif supersection is None:
                    raise self.refusal(number, f"[{name}] stands in no supersection; allowed above it is {_HEADINGS}")
                else:
                    section = self._section(number, name, supersection)
            elif supersection is None or supersection.name in NEEDED:
                entry = self._entry(number, line)
                if section is None:
                    raise self.refusal(number, f"{entry} stands in no section; allowed above it is a line [name]")
                section.entries.append(entry)
        return number

    def _heading(self, number: int, line: str) -> tuple[int, str]:
        name = "".join(line.split())  # DCMTK ignores blanks here
        for level in (2, 1):
            match = re.fullmatch(r"\[" * level + r"([^\[\]]+)" + r"\]" * level, name)
            if match and name.isprintable():
                return level, match[1]
        raise self.refusal(number, f"{line!r}: allowed is [[supersection]] or [section], alone on its line")

    def _supersection(self, number: int, name: str) -> _Supersection:
        known = next((known for known in (*NEEDED, *PASSED_OVER) if _folded(known) == _folded(name)), "")
        if not known:
            self.warn(number, f"[[{name}]] is passed over; known are {_HEADINGS}")
        supersection = _Supersection(known or name, number, {})
        before = self.supersections.setdefault(_folded(name), supersection)
        if known and before is not supersection:
            self.warn(number, f"[[{known}]] again; it goes on here, but DCMTK would read only line {before.line}")
        return before

    def _section(self, number: int, name: str, supersection: _Supersection) -> _Section:
        section = _Section(name, number, [])
        before = supersection.sections.setdefault(_folded(name), section)
        if before is not section and supersection.name in NEEDED:
            where = f"[[{supersection.name}]]"
            raise self.refusal(number, f"[{name}] is in line {before.line} too; allowed is one of a name in {where}")
        return before

    def _entry(self, number: int, line: str) -> _Entry:
        key, sign, value = line.partition("=")
        if not sign:
            raise self.refusal(number, f"{line!r} has no '='; allowed is a line 'key = value'")
        return _Entry(number, key.strip(), value.strip())


def _folded(name: str) -> str:
    """Names of sections and keys are compared without case and blanks (asconfig.txt 1)."""
    return "".join(name.split()).casefold()


# --- sections -> lists of UIDs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Context:
    """A presentation context that is accepted."""

    line: int
    sop_class: str
    transfer_syntaxes: tuple[str, ...]


def _transfer_syntax_lists(file: _File) -> dict[str, tuple[str, ...]]:
    names = _transfer_syntax_names()
    lists = {}
    for folded, section in file.sections(TRANSFER_SYNTAXES).items():
        found: dict[str, int] = {}
        for entry in _numbered(file, section, "TransferSyntax"):
            uid = _uid_of(file, entry, entry.value, names, "transfer syntax")
            before = found.setdefault(uid, entry.line)
            if before != entry.line:
                file.warn(entry.line, f"{entry} is in line {before} too; that one counts")
        lists[folded] = tuple(found)
    return lists


def _lists(file: _File, transfer_syntaxes: Mapping[str, tuple[str, ...]]) -> dict[str, list[_Context]]:
    """The sections of [[PresentationContexts]]."""
    names = _sop_class_names()
    return {
        folded: [
            _context(file, entry, names, transfer_syntaxes)
            for entry in _numbered(file, section, "PresentationContext")
        ]
        for folded, section in file.sections(PRESENTATION_CONTEXTS).items()
    }  # fmt: skip


def _context(
    file: _File, entry: _Entry, names: Mapping[str, str], transfer_syntaxes: Mapping[str, tuple[str, ...]]
) -> _Context:
    sop_class, *rest = (part.strip() for part in entry.value.split("\\"))
    if not 1 <= len(rest) <= 2 or (rest[1:] and rest[1].upper() not in ROLES):
        allowed = r"'SOP class\list of transfer syntaxes', and \SCU, \SCP or \BOTH after it"
        raise file.refusal(entry.line, f"{entry}: allowed is {allowed}")
    uid = _uid_of(file, entry, sop_class, names, "SOP class")
    return _Context(entry.line, uid, transfer_syntaxes[_reference(file, entry, rest[0], TRANSFER_SYNTAXES)])


def _profiles(file: _File, lists: Mapping[str, list[_Context]]) -> dict[str, tuple[_Section, list[_Context]]]:
    """The profiles in the order of the file, each with its presentation contexts."""
    profiles = {}
    for folded, section in file.sections(PROFILES).items():
        references: dict[str, str] = {}
        for entry in section.entries:
            name = next((name for name in REFERENCES if _folded(name) == _folded(entry.key)), None)
            if name is None:
                allowed = ", ".join(REFERENCES)
                file.warn(entry.line, f"unknown key {entry.key!r} is ignored; known in a profile are {allowed}")
            elif name in references:
                file.warn(entry.line, f"{name} again in [{section.name}]; the first one counts")
            else:
                references[name] = _reference(file, entry, entry.value, name)
        if PRESENTATION_CONTEXTS not in references:
            allowed = f"one line '{PRESENTATION_CONTEXTS} = name of a section in [[{PRESENTATION_CONTEXTS}]]'"
            raise file.refusal(
                section.line, f"profile [{section.name}] has no {PRESENTATION_CONTEXTS}; needed is {allowed}"
            )
        profiles[folded] = section, lists[references[PRESENTATION_CONTEXTS]]
    if not profiles:
        line = file.supersections[_folded(PROFILES)].line
        raise file.refusal(line, f"[[{PROFILES}]] has no section; allowed is one or more, each a profile")
    return profiles


def _reference(file: _File, entry: _Entry, name: str, supersection: str) -> str:
    """The folded name of the section that is meant, which must be there and, if we use it, have entries."""
    sections = file.sections(supersection)
    section = sections.get(_folded(name))
    if section is None:
        names = ", ".join(f"[{known.name}]" for known in sections.values()) or "none, for there is no section"
        raise file.refusal(entry.line, f"{entry}: [[{supersection}]] has no section {name!r}; allowed is {names}")
    if supersection in NEEDED and not section.entries:
        raise file.refusal(
            section.line, f"[{section.name}] is empty, and line {entry.line} uses it; allowed is one entry or more"
        )
    return _folded(name)


def _numbered(file: _File, section: _Section, prefix: str) -> list[_Entry]:
    """The entries of a list by their numbers; those with the same number in the order of their lines."""
    numbered = []
    for entry in section.entries:
        match = re.fullmatch(_folded(prefix) + "([0-9]{0,9})", _folded(entry.key))
        if match is None:
            known = f"{prefix}1, {prefix}2 and so on"
            raise file.refusal(entry.line, f"{entry}: the key is unknown; allowed in [{section.name}] is {known}")
        numbered.append((match[1], entry))
    numbered.sort(key=lambda pair: int(pair[0] or 0))
    for expected, (number, entry) in enumerate(numbered, 1):
        if number != str(expected):
            text = f"{entry.key!r} comes where {prefix}{expected} is due in [{section.name}]"
            file.warn(entry.line, f"{text}; every entry counts here, in order, but not with DCMTK")
            break
    return [entry for _, entry in numbered]


def _sop_classes(file: _File, contexts: list[_Context]) -> dict[str, tuple[str, ...]]:
    """What a list accepts, by SOP class. One that comes again adds its transfer syntaxes, as in a list for a sender."""
    lines: dict[str, int] = {}
    found: dict[str, tuple[str, ...]] = {}
    again = []
    for context in contexts:
        if context.sop_class in uids.OTHER_SOP_CLASSES and context.sop_class != uids.VERIFICATION:
            name = uids.name_of(context.sop_class)
            file.warn(context.line, f"{name} is not accepted all the same, for it stores nothing")
            continue
        if context.sop_class in found:
            again.append(context)
        found[context.sop_class] = tuple(dict.fromkeys(found.get(context.sop_class, ()) + context.transfer_syntaxes))
        lines.setdefault(context.sop_class, context.line)
    if again:
        first, count = again[0], len({context.sop_class for context in again})
        text = f"{uids.name_of(first.sop_class)} is in line {lines[first.sop_class]} too"
        more = f", and so for {count} SOP classes" if count > 1 else ""
        file.warn(first.line, f"{text}{more}: the transfer syntaxes of all its lines are accepted, in their order")
    return found


# --- names -> UIDs ----------------------------------------------------------------------------------------


def _uid_of(file: _File, entry: _Entry, text: str, names: Mapping[str, str], kind: str) -> str:
    if uids.is_uid(text):
        return text
    if text in names:
        return names[text]
    near = difflib.get_close_matches(text[:64], names, n=1)
    nearest = f"; the nearest is {near[0]}" if near else ""
    allowed = f"a UID, or a name as DCMTK or PS3.6 has it, in the same case{nearest}"
    raise file.refusal(entry.line, f"{entry}: {text!r} is no {kind}; allowed is {allowed}")


def _sop_class_names() -> dict[str, str]:
    # imported here, for a receiver without a profile file has no use for them
    from dcmstore import dcmtk_names, uid_names

    return uid_names.SOP_CLASSES | dcmtk_names.SOP_CLASSES


def _transfer_syntax_names() -> dict[str, str]:
    from dcmstore import dcmtk_names, uid_names

    orders = [uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN]
    if sys.byteorder == "big":
        orders.reverse()
    own, other = orders
    byte_orders = {"LocalEndianExplicit": own, "OppositeEndianExplicit": other}
    return uid_names.TRANSFER_SYNTAXES | dcmtk_names.TRANSFER_SYNTAXES | byte_orders
