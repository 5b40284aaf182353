"""pydicom's UID dictionary -> src/dcmstore/uids.py and uid_names.py, so that receiving needs no package at run time.

Run `make docs` after an upgrade of pydicom or pynetdicom; a test fails when the two differ.
"""

import re
from pathlib import Path

from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class

PACKAGE = Path(__file__).parent.parent / "src" / "dcmstore"

HEADER = '''"""What a UID is, the names of those that PS3.6 Annex A registers, and which SOP classes are storage.

Written by tools/make_uids.py from pydicom's dictionary; do not edit.
"""

import re

'''

NAMES_HEADER = '''"""keyword of PS3.6 Annex A -> UID. A module of its own, for only a profile file needs it.

Written by tools/make_uids.py from pydicom's dictionary; do not edit.
"""

'''


def dictionary() -> dict[str, tuple[str, str, str]]:
    """UID -> name, kind, keyword: pydicom's, and the newest storage classes, which only pynetdicom knows yet."""
    entries = {uid: (entry[0], entry[1], entry[4]) for uid, entry in UID_dictionary.items()}
    for keyword, uid in sop_class._STORAGE_CLASSES.items():
        entries.setdefault(str(uid), (re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword), "SOP Class", keyword))
    return entries


def is_storage(uid: str, name: str) -> bool:
    """Storage classes carry the word in their name; Storage Commitment (1.2.840.10008.1.20) does not store."""
    return "Storage" in name and not uid.startswith("1.2.840.10008.1.20.")


def table(title: str, entries: dict[str, str]) -> str:
    rows = "".join(f'    "{key}": "{value}",\n' for key, value in entries.items())
    return f"{title}: dict[str, str] = {{\n{rows}}}\n"


def module() -> str:
    """The text of uids.py."""
    named = {uid: name for uid, (name, _, _) in dictionary().items() if name}
    kind = {uid: kind for uid, (_, kind, _) in dictionary().items()}
    sop_classes = {u: n for u, n in named.items() if kind[u] in ("SOP Class", "Meta SOP Class")}
    storage = {u: n for u, n in sop_classes.items() if is_storage(u, n)}
    other = {u: n for u, n in sop_classes.items() if u not in storage}
    transfer_syntaxes = {u: n for u, n in named.items() if kind[u] == "Transfer Syntax"}
    return (
        HEADER
        + table("STORAGE_SOP_CLASSES", storage)
        + "\n"
        + table("OTHER_SOP_CLASSES", other)
        + "\n"
        + table("TRANSFER_SYNTAXES", transfer_syntaxes)
        + '''
VERIFICATION = "1.2.840.10008.1.1"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

MAX_UID = 64  # characters (PS3.5 9.1)
_UID = re.compile(r"[0-9](?:[0-9.]*[0-9])?")


def is_uid(text: str) -> bool:
    """True for 1 to 64 digits and dots, a digit at either end (PS3.5 9.1).

    Components that begin with a zero or are empty are let pass: they are frequent, and no file system minds them.
    """
    return len(text) <= MAX_UID and _UID.fullmatch(text) is not None


def name_of(uid: str) -> str:
    """The registered name of a UID, or the UID itself where the standard has none."""
    return STORAGE_SOP_CLASSES.get(uid) or OTHER_SOP_CLASSES.get(uid) or TRANSFER_SYNTAXES.get(uid) or uid
'''
    )


def names_module() -> str:
    """The text of uid_names.py."""
    keyword = {uid: keyword for uid, (_, _, keyword) in dictionary().items() if keyword}
    kind = {uid: kind for uid, (_, kind, _) in dictionary().items()}
    sop_classes = {keyword[u]: u for u in keyword if kind[u] in ("SOP Class", "Meta SOP Class")}
    transfer_syntaxes = {keyword[u]: u for u in keyword if kind[u] == "Transfer Syntax"}
    return NAMES_HEADER + table("SOP_CLASSES", sop_classes) + "\n" + table("TRANSFER_SYNTAXES", transfer_syntaxes)


if __name__ == "__main__":
    (PACKAGE / "uids.py").write_text(module(), encoding="utf-8")
    (PACKAGE / "uid_names.py").write_text(names_module(), encoding="utf-8")
