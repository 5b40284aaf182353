"""header + policy -> path: the only place where a peer's text becomes a path.

A folder is named by the value itself wherever every platform can hold that name. Where not, the name is made
safe and gets `~` and eight hexadecimal digits of the value's SHA-256, so that two different values never share
a folder: not after replacing, not after cutting, and not by imitating one of our own names.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dcmstore.storage import header, text

# PS3.4 table B.5-1: structured reports that are dose reports by their class
DOSE_SOP_CLASSES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.88.67",  # X-Ray Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.88.68",  # Radiopharmaceutical Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.88.73",  # Patient Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.88.76",  # Enhanced X-Ray Radiation Dose SR
    )
)
_SR_ROOT = "1.2.840.10008.5.1.4.1.1.88."
# PS3.16 TID 10001, 10011, 10021 and 10030: the titles of dose reports, whatever class they travel in
DOSE_TITLES = frozenset(((b"113701", b"DCM"), (b"113500", b"DCM"), (b"128401", b"DCM")))

NO_PATIENT_ID = "NO_PATIENT_ID"
NO_PATIENT_NAME = "NO_PATIENT_NAME"
NO_STUDY_ID = "NO_STUDY_ID"
NO_SERIES_NUMBER = "NO_SERIES_NUMBER"
INCOMING = ".incoming"  # temporary files of objects under way
QUARANTINE = "QUARANTINE"  # what could not be read far enough to file it

MAX_NAME = 64  # UTF-16 units of a folder's name, so that three levels and a UID fit Windows' 260
MAX_NAME_BYTES = 200  # in UTF-8; Linux file systems take 255 a name
MAX_UID = 64  # characters (PS3.5 9.1)

_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
_DEVICES |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
_OURS = {NO_PATIENT_ID, NO_PATIENT_NAME, NO_STUDY_ID, NO_SERIES_NUMBER, INCOMING.upper(), QUARANTINE, "DICOMDIR"}
_SUFFIX = re.compile(r"~[0-9a-f]{8}$", re.IGNORECASE)
_SHORT_NAME = re.compile(r"[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?")  # `LONGNA~1` opens another folder on NTFS
_UNSAFE = re.compile(
    r'[<>:"/\\|?*'  # not in names on Windows
    "\x00-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # invisible, or turning text
    "\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f"  # the same, and rarer
    "\ufffd\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"  # what could not be decoded, and what is no character
)
_UID = re.compile(r"[0-9](?:[0-9.]*[0-9])?")


class Root(Enum):
    """The two root folders, by their key in the ini."""

    IMAGES = "IMG-DIR"
    DOSE_REPORTS = "RDSR-DIR"


@dataclass(frozen=True, slots=True)
class FilingPolicy:
    """Which levels the tree has; the fields bear the names of their keys in the ini."""

    folder_tree: bool = True
    order_by_patient_id: bool = True
    order_by_study: bool = True
    order_by_series: bool = True
    rdsr_tree: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an instance belongs: a root, the folders below it from the outside in, and a file name."""

    root: Root
    folders: tuple[str, ...]
    file_name: str


def is_structured_report(sop_class_uid: str) -> bool:
    return sop_class_uid.startswith(_SR_ROOT)


def needs_title(sop_class_uid: str) -> bool:
    """True where only its title tells whether a structured report is a dose report."""
    return is_structured_report(sop_class_uid) and sop_class_uid not in DOSE_SOP_CLASSES


def root_of(sop_class_uid: str, values: Mapping[int, bytes]) -> Root:
    """Images or dose reports, by SOP class, else by the title in `values`: codes count, not their meanings."""
    if sop_class_uid in DOSE_SOP_CLASSES:
        return Root.DOSE_REPORTS
    title = values.get(header.CODE_VALUE, b""), values.get(header.CODING_SCHEME_DESIGNATOR, b"")
    if needs_title(sop_class_uid) and tuple(part.strip(b" \0") for part in title) in DOSE_TITLES:
        return Root.DOSE_REPORTS
    return Root.IMAGES


def destination(
    sop_class_uid: str, sop_instance_uid: str, values: Mapping[int, bytes], policy: FilingPolicy
) -> Destination:
    """Where the instance with these header values (raw bytes by tag) belongs. The UID must be `is_uid`."""
    root = root_of(sop_class_uid, values)
    has_tree = policy.rdsr_tree if root is Root.DOSE_REPORTS else policy.folder_tree
    folders = _folders(values, policy) if has_tree else ()
    return Destination(root, folders, file_name_of(sop_instance_uid))


def _folders(values: Mapping[int, bytes], policy: FilingPolicy) -> tuple[str, ...]:
    if policy.order_by_patient_id:
        levels = [(header.PATIENT_ID, NO_PATIENT_ID)]
    else:
        levels = [(header.PATIENT_NAME, NO_PATIENT_NAME)]
    if policy.order_by_study:
        levels.append((header.STUDY_ID, NO_STUDY_ID))
    if policy.order_by_series:
        levels.append((header.SERIES_NUMBER, NO_SERIES_NUMBER))
    character_set = values.get(header.SPECIFIC_CHARACTER_SET, b"")
    return tuple(folder_name(values.get(tag, b""), character_set, placeholder) for tag, placeholder in levels)


def folder_name(value: bytes, character_set: bytes, placeholder: str) -> str:
    """The folder's name for one raw value: readable, safe everywhere, and different for different values.

    An empty value gives the placeholder. At most MAX_NAME UTF-16 units and MAX_NAME_BYTES bytes.
    """
    wanted = text.decode(value, character_set)
    if not wanted:
        return placeholder
    safe = _UNSAFE.sub("_", wanted).rstrip(" .")
    if safe.startswith((".", " ")):
        safe = "_" + safe[1:]
    if safe == wanted and _fits(safe, 0) and not _is_reserved(safe):
        return safe
    # Where decoding lost something (U+FFFD), only the bytes still tell two values apart.
    identity = value.strip(b" \0") if "\ufffd" in wanted else wanted.encode("utf-8")
    suffix = "~" + hashlib.sha256(identity).hexdigest()[:8]
    stem = ("_" + safe if _is_device(safe) else safe)[:MAX_NAME]
    while not _fits(stem, len(suffix)):
        stem = stem[:-1]
    return stem.rstrip(" .") + suffix


def _fits(name: str, room: int) -> bool:
    units = len(name.encode("utf-16-le")) // 2
    return units + room <= MAX_NAME and len(name.encode("utf-8")) + room <= MAX_NAME_BYTES


def _is_reserved(name: str) -> bool:
    """True for a name that means something else to Windows, is one of ours, or looks like one of ours."""
    return (
        _is_device(name)
        or _SHORT_NAME.fullmatch(name) is not None
        or name.upper() in _OURS
        or name.lower().endswith(".dcm")
        or _SUFFIX.search(name) is not None
    )


def _is_device(name: str) -> bool:
    """Windows takes `con.txt` and `CON .txt` for the device too."""
    return name.split(".")[0].rstrip(" ").upper() in _DEVICES


def is_uid(uid: str) -> bool:
    """True for digits and dots, at most 64 (PS3.5 9.1). A leading zero in a component is let pass: it is frequent."""
    return len(uid) <= MAX_UID and _UID.fullmatch(uid) is not None


def file_name_of(sop_instance_uid: str) -> str:
    """`<SOPInstanceUID>.dcm`. Raises ValueError for what is not a UID: callers have refused it before."""
    if not is_uid(sop_instance_uid):
        raise ValueError(f"not a UID: {sop_instance_uid!r}")
    return sop_instance_uid + ".dcm"


def numbered(file_name: str, number: int) -> str:
    """The name of another instance that claims the same name: `1.2.3 (2).dcm`."""
    stem, dot, extension = file_name.rpartition(".")
    return f"{stem} ({number}){dot}{extension}"
