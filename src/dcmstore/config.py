"""DcmStore.ini -> one frozen Settings value, checked once.

The table of keys is the dataclass below: each field carries its key as the ini spells it, what is allowed, and
the sentence that explains it. `read` follows it, `sample` writes it out, and the tests hold the documentation to it.
"""

import difflib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from dcmstore.errors import ConfigurationError

FILE_NAME = "DcmStore.ini"
MAX_AE_TITLE = 16  # characters (PS3.5 6.2)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the ini: how it is spelt, what its value may be, and what it does."""

    name: str
    parse: Callable[[str], Any]
    allowed: str
    about: str
    aliases: tuple[str, ...] = ()


def _key(name: str, default: object, parse: Callable[[str], Any], allowed: str, about: str, *aliases: str) -> Any:
    return field(default=default, metadata={"key": Key(name, parse, allowed, about, aliases)})


# --- how values are read: each raises ValueError on what is not allowed ------------------------------


def _ae_title(value: str) -> str:
    if not 1 <= len(value) <= MAX_AE_TITLE or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError
    return value


def _ae_titles(value: str) -> frozenset[str]:
    return frozenset(_ae_title(title.strip()) for title in value.split(",")) if value else frozenset()


def _number(low: int, high: int) -> tuple[Callable[[str], int], str]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return parse, f"a whole number from {low} to {high}"


def _switch(value: str) -> bool:
    return {"0": False, "1": True}[value]


def _one_of(*choices: str) -> tuple[Callable[[str], str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError
        return value.lower()

    return parse, "one of " + ", ".join(choices)


def _max_pdu(value: str) -> int:
    number = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else -1
    if number != 0 and not 4096 <= number <= 16 * 1024 * 1024:
        raise ValueError
    return number


def _folder(value: str) -> Path:
    if not value or "\0" in value:
        raise ValueError
    return Path(value)


def _text(value: str) -> str:
    return value


_SWITCH = (_switch, "0 (off) or 1 (on)")
_SECONDS = _number(1, 86_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Folders are absolute once `read` has returned them; times are in seconds."""

    local_ae: str = _key(
        "localAE", "DCMSTORE", _ae_title, "1 to 16 ASCII characters",
        "AE title of this receiver, as agreed with the PACS administrator.", "AE",
    )  # fmt: skip
    port: int = _key(
        "port", 11112, *_number(0, 65535),
        "TCP port to listen on; 0 takes a free one. DICOM's own are 104 (Linux: root only) and 11112.",
    )  # fmt: skip
    bind: str = _key(
        "bind", "", _text, "an address of this machine, or nothing for all of them",
        "Address to listen on. Empty: all addresses, IPv4 and IPv6.",
    )  # fmt: skip
    img_dir: Path = _key(
        "IMG-DIR", Path("received/images"), _folder, "a folder",
        "Root folder of images. A relative path starts at the folder of this file.",
    )  # fmt: skip
    rdsr_dir: Path = _key(
        "RDSR-DIR", Path("received/rdsr"), _folder, "a folder",
        "Root folder of radiation dose structured reports.",
    )  # fmt: skip
    logfile: bool = _key(
        "logfile", True, *_SWITCH,
        "Write the log to DcmStore.log beside this file as well as to the console.",
    )  # fmt: skip
    folder_tree: bool = _key(
        "folder-tree", True, *_SWITCH,
        "1: images go into a tree of folders below IMG-DIR. 0: all into IMG-DIR itself.",
    )  # fmt: skip
    order_by_patient_id: bool = _key(
        "order-by-patientID", True, *_SWITCH,
        "The master folder is named by 1: Patient ID, 0: Patient's Name.",
    )  # fmt: skip
    order_by_study: bool = _key(
        "order-by-study", True, *_SWITCH, "Below it, a folder by Study ID.",
    )  # fmt: skip
    order_by_series: bool = _key(
        "order-by-series", True, *_SWITCH, "Below that, a folder by Series Number.",
    )  # fmt: skip
    rdsr_tree: bool = _key(
        "RDSR-tree", False, *_SWITCH,
        "1: dose reports get the same tree below RDSR-DIR. 0: all into RDSR-DIR itself.",
    )  # fmt: skip
    duplicates: str = _key(
        "duplicates", "both", *_one_of("both", "replace", "keep"),
        "When a different object comes under a SOP Instance UID that is already stored: both keeps the newcomer "
        "as `UID (2).dcm`, replace puts it in the old one's place, keep refuses it with status 0111.",
    )  # fmt: skip
    durable: bool = _key(
        "durable", True, *_SWITCH,
        "1: success is answered when the object survives a power cut. 0: when the system has it; for speed tests.",
    )  # fmt: skip
    accept_unknown: bool = _key(
        "accept-unknown", True, *_SWITCH,
        "Store SOP classes that the standard does not list, such as private ones.",
    )  # fmt: skip
    prefer_syntax: str = _key(
        "prefer-syntax", "uncompressed", *_one_of("uncompressed", "sender", "compressed"),
        "Transfer syntax to take when a sender proposes several in one context: uncompressed and compressed take "
        "the first of that kind, sender takes the one it names first. Objects are stored as they are sent.",
    )  # fmt: skip
    profile: str = _key(
        "profile", "", _text, "the name of a profile, or nothing for the first",
        "Which profile of PresContextCfg.ini to use. With that file beside this one, only the SOP classes and transfer "
        "syntaxes that the profile lists are accepted, and accept-unknown and prefer-syntax do not count.",
    )  # fmt: skip
    check_called_ae: bool = _key(
        "check-called-ae", False, *_SWITCH, "Reject senders that call another AE title than localAE.",
    )  # fmt: skip
    allowed_ae: frozenset[str] = _key(
        "allowed-ae", frozenset(), _ae_titles, "AE titles separated by commas, or nothing",
        "AE titles that may send. Empty: all.",
    )  # fmt: skip
    max_associations: int = _key(
        "max-associations", 100, *_number(1, 10_000),
        "Associations served at once. One more is rejected for the moment; senders try again.",
    )  # fmt: skip
    max_pdu: int = _key(
        "max-pdu", 131_072, _max_pdu, "0 (no limit) or 4096 to 16777216",
        "Longest PDU to ask senders for, in bytes.",
    )  # fmt: skip
    artim_timeout: int = _key(
        "artim-timeout", 30, *_SECONDS,
        "Seconds that a sender has for its association request, and at the end to close the connection.",
    )  # fmt: skip
    idle_timeout: int = _key(
        "idle-timeout", 600, *_SECONDS, "Seconds that an association may be open without a message.",
    )  # fmt: skip
    stall_timeout: int = _key(
        "stall-timeout", 60, *_SECONDS, "Seconds without progress in the middle of a message.",
    )  # fmt: skip
    stop_timeout: int = _key(
        "stop-timeout", 20, *_SECONDS, "Seconds that objects under way get to finish when the receiver stops.",
    )  # fmt: skip
    log_level: str = _key(
        "log-level", "info", *_one_of("debug", "info", "warning", "error"),
        "How much to log. debug shows every PDU.",
    )  # fmt: skip
    log_patient: bool = _key(
        "log-patient", False, *_SWITCH,
        "1: paths in the log show the patient's folder. 0: they show * in its place.",
    )  # fmt: skip
    logfile_size: int = _key(
        "logfile-size", 10, *_number(1, 10_000), "Size in megabytes at which a log file is put aside.",
    )  # fmt: skip
    logfile_keep: int = _key(
        "logfile-keep", 9, *_number(1, 1_000), "How many log files put aside are kept.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was read: the settings, where each came from, and what a person should know about the file."""

    path: Path
    settings: Settings
    lines: Mapping[str, int]  # field -> line number; fields that have their default are absent
    warnings: tuple[str, ...]

    def source(self, field_name: str) -> str:
        """`line 4` or `default`."""
        line = self.lines.get(field_name)
        return f"line {line}" if line else "default"


def keys_in_order() -> Iterator[tuple[str, Key]]:
    """Every field of Settings with its key, in the order of the sample."""
    for item in fields(Settings):
        yield item.name, item.metadata["key"]


def _spellings() -> dict[str, tuple[str, Key]]:
    return {
        spelling.lower(): (field_name, key)
        for field_name, key in keys_in_order()
        for spelling in (key.name, *key.aliases)
    }  # fmt: skip


def read(path: Path) -> Configuration:
    """Read an ini. Raises ConfigurationError with one line that names file, line, key, value and what is allowed."""
    spellings = _spellings()
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    warnings = []
    for number, name, value in _assignments(path):
        if name.lower() not in spellings:
            warnings.append(f"{path}, line {number}: unknown key {name!r} is ignored{_nearest(name, spellings)}")
            continue
        field_name, key = spellings[name.lower()]
        if field_name in lines:
            warnings.append(f"{path}, line {number}: {key.name} again; line {lines[field_name]} no longer counts")
        values[field_name] = _parse(path, number, key, value)
        lines[field_name] = number
    folder = path.absolute().parent
    for field_name in ("img_dir", "rdsr_dir"):
        default = next(item.default for item in fields(Settings) if item.name == field_name)
        values[field_name] = folder / values.get(field_name, default)
    return Configuration(path, Settings(**values), lines, tuple(warnings))


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


def _parse(path: Path, number: int, key: Key, value: str) -> Any:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    try:
        return key.parse(value)
    except (ValueError, KeyError):
        raise ConfigurationError(f"{path}, line {number}: {key.name}= {value!r}: allowed is {key.allowed}") from None


def _nearest(name: str, spellings: Mapping[str, tuple[str, Key]]) -> str:
    near = difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.0)
    return f"; the nearest known one is {spellings[near[0]][1].name}" if near else ""


def shown(value: object) -> str:
    """A value as the ini spells it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return str(value)


def sample() -> str:
    """A complete DcmStore.ini: every key with its default, what is allowed, and its sentence."""
    blocks = [
        "# DcmStore.ini: the settings of dcmstore. One `key= value` a line, in any order.\n"
        "# Lines that begin with # or ; are comments. `dcmstore check` shows what is in force.\n"
    ]
    for item in fields(Settings):
        assert item.default is not MISSING
        key: Key = item.metadata["key"]
        about = "\n".join(f"# {line}" for line in [*textwrap.wrap(key.about, 96), f"Allowed: {key.allowed}."])
        blocks.append(f"{about}\n{key.name}= {_portable(item.default)}".rstrip() + "\n")
    return "\n".join(blocks)


def _portable(value: object) -> str:
    return value.as_posix() if isinstance(value, Path) else shown(value)
