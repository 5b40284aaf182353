"""values -> names -> paths: storage/text.py, names.py and filing.py (invariants 1, 3 and 4)."""

import ntpath
import posixpath
import re
import unicodedata
from itertools import islice

from dcmstore.storage import filing, header, names, text
from dcmstore.storage.filing import DOSE_SOP_CLASSES, Destination, FilingPolicy, Root
from fuzz import reference
from fuzz.oracle import require

BETWEEN = b"\n\n"  # between two values of an input
VALUES = (
    header.SPECIFIC_CHARACTER_SET,
    header.PATIENT_ID,
    header.PATIENT_NAME,
    header.STUDY_ID,
    header.SERIES_NUMBER,
    header.MODALITY,
    header.INSTANCE_NUMBER,
    header.CODE_VALUE,
    header.CODING_SCHEME_DESIGNATOR,
)
SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", *sorted(DOSE_SOP_CLASSES), "1.2.840.10008.5.1.4.1.1.88.22", "1.2.3", "")
_ROOTS = {Root.IMAGES: "img", Root.DOSE_REPORTS: "rdsr"}
_OURS = {".INCOMING", "QUARANTINE", "DICOMDIR"}
_MEDIA = re.compile(r"[A-Z0-9_]{1,8}")  # PS3.10 8.2 and 8.5
# What docs/filing.md says of the sets that a value can plainly be in
_PLAIN = {b"ISO_IR 100": "latin-1", b"ISO_IR 101": "iso8859-2", b"ISO_IR 144": "iso8859-5", b"ISO_IR 192": "utf-8",
          b"GB18030": "gb18030"}  # fmt: skip


def place(data: bytes) -> None:
    """Every value of a peer gives a legal name below a root, and different values give different names."""
    bits, sop_class, rest = data[:1], data[1:2], data[2:]
    policy = _policy(bits[0] if bits else 0, sop_class[0] if sop_class else 0)
    parts = rest.split(BETWEEN)
    uid = parts.pop(0).decode("latin-1")
    values = dict(zip(VALUES, parts, strict=False))
    for value in values.values():
        _check_text(value, parts[0])
    _check_difference(values, parts[0] if parts else b"")
    sop_class_uid = SOP_CLASSES[sop_class[0] % len(SOP_CLASSES)] if sop_class else ""
    try:
        destination = filing.destination(sop_class_uid, uid, values, policy)
    except ValueError:
        require(not reference.is_uid(uid), "refused, and it is a UID", uid)
        return
    has_number = policy.image_name_index and destination.folders
    require(reference.is_uid(uid) or bool(has_number), "filed under what is no UID", uid)
    again = filing.destination(sop_class_uid, uid, dict(values), policy)
    require(destination == again, "another place for the same object", destination, again)
    _check_place(destination, policy)
    if reference.is_uid(uid):
        _check_place(filing.quarantine(destination.root, uid), policy)


def _policy(bits: int, more: int) -> FilingPolicy:
    media = bool(bits & 64)  # as config.py has it: they force the names and the levels
    index = bool(bits & 32) or media
    return FilingPolicy(
        folder_tree=bool(bits & 1) or media,
        order_by_patient_id=bool(bits & 2),
        order_by_study=bool(bits & 4) or index,
        order_by_series=bool(bits & 8) or index,
        rdsr_tree=bool(bits & 16),
        image_name_index=index,
        media_names=media,
        sr_sub=(None, None, False, True)[more >> 6],
    )


def _check_place(destination: Destination, policy: FilingPolicy) -> None:
    folders = destination.folders
    for depth, folder in enumerate(folders):
        fault = reference.fault_of_name(folder)
        require(not fault, f"a folder's name {fault}", folder)
        is_quarantine = folders == (names.QUARANTINE,)
        require(folder.upper() not in _OURS or is_quarantine, "a folder of ours in the name of a peer", folder)
        require(len(folder.encode("utf-16-le")) <= 128, "a folder's name is longer than 64 units", folder)
        if policy.media_names and depth:
            require(_MEDIA.fullmatch(folder) is not None, "a name that no DICOM medium takes", folder)
    for file_name in islice(destination.file_names(), 12):
        fault = reference.fault_of_name(file_name)
        require(not fault, f"a file's name {fault}", file_name)
        if policy.image_name_index and "." not in file_name:
            require(_MEDIA.fullmatch(file_name) is not None, "a file's name that no DICOM medium takes", file_name)
        _check_inside(destination.root, (*folders, file_name))
    numbered = list(islice(destination.file_names(), 12))
    require(len(set(numbered)) == 12, "a number that is given twice", numbered)


def _check_inside(root: Root, parts: tuple[str, ...]) -> None:
    """Joined as both systems do it, the path goes down from the root, one level a part."""
    for system, top in ((posixpath, "/srv/" + _ROOTS[root]), (ntpath, "D:\\" + _ROOTS[root])):
        path = system.join(top, *parts)
        require(system.normpath(path) == system.sep.join((top, *parts)), "a path that leaves its root", path)


def _check_text(value: bytes, character_set: bytes) -> None:
    decoded = text.decode(value, character_set)
    require(decoded == decoded.strip(" \0"), "padding is left", decoded)
    require(unicodedata.is_normalized("NFC", decoded), "not in NFC", decoded)
    decoded.encode("utf-8")
    if value.isascii() and b"\x1b" not in value:
        require(decoded == value.decode("ascii").strip(" \0"), "ASCII is read as something else", decoded)
    codec = _PLAIN.get(character_set.strip(b" \0"))
    if codec and b"\x1b" not in value:
        try:
            plain = value.decode(codec)
        except UnicodeDecodeError:
            return
        require(decoded == unicodedata.normalize("NFC", plain).strip(" \0"), "read in another set", decoded, plain)


def _check_difference(values: dict[int, bytes], character_set: bytes) -> None:
    """Two values share a folder if, and only if, they say the same; an altered value does not look like another's."""
    placeholder = names.NO_PATIENT_ID
    named: dict[str, tuple[str, bytes]] = {}
    for value in values.values():
        name, decoded = names.folder_name(value, character_set, placeholder), text.decode(value, character_set)
        says = decoded, value.strip(b" \0") if "\ufffd" in decoded else b""
        require(named.setdefault(name, says) == says, "two values share a folder", name, named[name], says)
        require((name == placeholder.name) is not bool(decoded), "a placeholder for a value, or the reverse", decoded)
        if decoded and name != decoded:  # altered: what is really called so gets another name
            other = names.folder_name(name.encode("utf-8"), b"ISO_IR 192", placeholder)
            require(other != name, "an altered name that a peer can ask for", name, decoded)
