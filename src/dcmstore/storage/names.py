"""one value of a peer -> one name that every platform can hold.

A folder is named by the value itself wherever that is possible. Where not, the name is made safe and gets a
suffix from the value's SHA-256, so that two different values never get the same name: not after replacing, not
after cutting, and not by imitating one of our own names. Names that differ in nothing but case are one folder to
some disks; there folders.py tells them apart.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from dcmstore.storage import text
from dcmstore.uids import is_uid

INCOMING = ".incoming"  # temporary files of objects under way
QUARANTINE = "QUARANTINE"  # what could not be read far enough to file it, and was not acknowledged
OUR_FOLDERS = (INCOMING, QUARANTINE)  # of a root; in them is nothing that was filed


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What a level is called where its value is empty or missing."""

    name: str
    media_name: str  # for a DICOM file-set


# In a tree without DICOMDIR, the names that DcmStoreService 1.4 uses.
NO_PATIENT_ID = Placeholder("ID_Unknown", "NOPATID")
NO_PATIENT_NAME = Placeholder("PName_Unknown", "NOPATNAM")
NO_STUDY_ID = Placeholder("Study-undef", "NOSTUDY")
NO_SERIES_NUMBER = Placeholder("nr", "NOSERIES")
_PLACEHOLDERS = (NO_PATIENT_ID, NO_PATIENT_NAME, NO_STUDY_ID, NO_SERIES_NUMBER)

# UTF-16 units of a folder's name. A Patient ID (LO, 64 characters) stays whole, and in UTF-8 the name is at most 192
# bytes, of the 255 that file systems take. It does not keep a path under Windows' 260: three levels and a UID's file
# come to 263 behind the root.
MAX_NAME = 64
MAX_MEDIA_NAME = 8  # characters (PS3.10 8.2)
CACHED_NAMES = 1024  # names remembered, of either kind
MAX_CACHED_VALUE = 128  # bytes of value and character set; so all remembered names stay under 2 MB

_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
_DEVICES |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
_OURS = {INCOMING.upper(), QUARANTINE, "DICOMDIR"}
_OURS |= {name.upper() for placeholder in _PLACEHOLDERS for name in (placeholder.name, placeholder.media_name)}
_SUFFIX = re.compile(r"~[0-9a-f]{8}$", re.IGNORECASE)
_SHORT_NAME = re.compile(r"[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?")  # `LONGNA~1` opens another folder on NTFS
_UNSAFE = re.compile(
    r'[<>:"/\\|?*'  # not in names on Windows
    "\x00-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # invisible, or turning text
    "\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f"  # the same, and rarer
    "\ufffd\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"  # what could not be decoded, and what is no character
)
_MEDIA_NAME = re.compile(r"[A-Z0-9_]{1,8}")
_MEDIA_SUFFIX = re.compile(r"[A-Z0-9_]{0,2}_[A-Z2-7]{5}")

_NameOf: TypeAlias = Callable[[bytes, bytes, Placeholder], str]  # value, character set, what an empty value is called


def _remembering(name_of: _NameOf) -> _NameOf:  # hot: bench; the objects of a series ask for the same three names
    """Remember the names of values that are not longer than real ones: a peer may send 16 kB each."""
    remembered = functools.lru_cache(maxsize=CACHED_NAMES)(name_of)

    @functools.wraps(name_of)
    def name(value: bytes, character_set: bytes, placeholder: Placeholder) -> str:
        of = remembered if len(value) + len(character_set) <= MAX_CACHED_VALUE else name_of
        return of(value, character_set, placeholder)

    return name


@_remembering
def folder_name(value: bytes, character_set: bytes, placeholder: Placeholder) -> str:
    """The folder's name for one raw value: readable, safe everywhere, and different for different values.

    An empty value gives the placeholder. At most MAX_NAME UTF-16 units, so at most 192 bytes in UTF-8.
    """
    wanted = text.decode(value, character_set)
    if not wanted:
        return placeholder.name
    safe = _UNSAFE.sub("_", wanted).rstrip(" .")
    if safe.startswith((".", " ")):
        safe = "_" + safe[1:]
    if safe == wanted and _units(safe) <= MAX_NAME and not _is_reserved(safe):
        return safe
    return _with_suffix("_" + safe if _is_device(safe) else safe, _digest(value, wanted))


@_remembering
def media_folder_name(value: bytes, character_set: bytes, placeholder: Placeholder) -> str:
    """The same for a folder of a DICOM file-set: 1 to 8 of A-Z, 0-9 and underscore (PS3.10 8.2 and 8.5).

    There is room for 25 bits of the digest only: enough to tell the studies of a patient apart.
    """
    wanted = text.decode(value, character_set)
    if not wanted:
        return placeholder.media_name
    is_ours = wanted in _OURS or _MEDIA_SUFFIX.fullmatch(wanted) is not None
    if _MEDIA_NAME.fullmatch(wanted) and not is_ours and not _is_device(wanted):
        return wanted
    stem = re.sub(r"[^A-Z0-9]", "", wanted.upper())[:2]
    return f"{stem}_{_base32(_digest(value, wanted))[:5]}"


def told_apart(name: str) -> str:
    """Another name for the same folder, where the disk takes `name` for one that is there already."""
    return _with_suffix(name, hashlib.sha256(name.encode("utf-8")).digest())


def _with_suffix(stem: str, digest: bytes) -> str:
    """The stem, cut to what fits, and eight hexadecimal digits behind `~`."""
    suffix = "~" + digest.hex()[:8]
    stem = stem[:MAX_NAME]
    while _units(stem) + len(suffix) > MAX_NAME:
        stem = stem[:-1]
    return stem.rstrip(" .") + suffix


def _digest(value: bytes, decoded: str) -> bytes:
    """What tells a value apart. Where decoding lost something (U+FFFD), that is its bytes."""
    return hashlib.sha256(value.strip(b" \0") if "\ufffd" in decoded else decoded.encode("utf-8")).digest()


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode("ascii")


def _units(name: str) -> int:
    """The length of a name as Windows counts it."""
    return len(name.encode("utf-16-le")) // 2


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


def file_name_of(sop_instance_uid: str) -> str:
    """`<SOPInstanceUID>.dcm`. Raises ValueError for what is not a UID: callers have refused it before."""
    if not is_uid(sop_instance_uid):
        raise ValueError(f"not a UID: {sop_instance_uid!r}")
    return sop_instance_uid + ".dcm"


def index_name_of(modality: bytes, instance_number: bytes, sop_instance_uid: str) -> str:
    """A file name from modality and Instance Number that a DICOM file-set can hold: `CT_00012`, 8 characters.

    The modality is cut where the number needs its place. Without a number of at most six digits the name is made of
    the UID: two letters and six characters of its digest.
    """
    prefix = re.sub(r"[^A-Z0-9]", "", modality.decode("latin-1").upper()) or "IM"
    number = instance_number.decode("latin-1").strip(" \0").removeprefix("+").lstrip("0") or "0"
    if not instance_number.strip(b" \0") or not re.fullmatch("[0-9]{1,6}", number):
        return prefix[:2] + _base32(hashlib.sha256(sop_instance_uid.encode("ascii")).digest())[:6]
    if len(number) == MAX_MEDIA_NAME - 2:
        return prefix[:2] + number
    prefix = prefix[: min(4, MAX_MEDIA_NAME - 1 - len(number))]
    return f"{prefix}_{number:0>{MAX_MEDIA_NAME - 1 - len(prefix)}}"


def numbered(file_name: str, number: int) -> str:
    """The name of another instance that claims the same name: `1.2.3 (2).dcm`, `CT_12_2` for `CT_00012`."""
    stem, dot, extension = file_name.rpartition(".")
    if dot:
        return f"{stem} ({number}){dot}{extension}"
    suffix = f"_{number}"
    shortened = re.sub(r"_0*(?=[0-9])", "_", file_name)
    return shortened[: MAX_MEDIA_NAME - len(suffix)] + suffix
