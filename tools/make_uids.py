"""pydicom's UID dictionary -> src/dcmstore/uids.py, so that receiving needs no package at run time.

Run `python tools/make_uids.py` after an upgrade of pydicom; a test fails when the two differ.
"""

from pathlib import Path

from pydicom._uid_dict import UID_dictionary

TARGET = Path(__file__).parent.parent / "src" / "dcmstore" / "uids.py"

HEADER = '''"""What a registered UID is: the names of PS3.6 Annex A, and which SOP classes are storage.

Written by tools/make_uids.py from pydicom's dictionary; do not edit.
"""

'''


def is_storage(uid: str, name: str) -> bool:
    """Storage classes carry the word in their name; Storage Commitment (1.2.840.10008.1.20) does not store."""
    return "Storage" in name and not uid.startswith("1.2.840.10008.1.20.")


def table(title: str, entries: dict[str, str]) -> str:
    rows = "".join(f'    "{uid}": "{name}",\n' for uid, name in entries.items())
    return f"{title}: dict[str, str] = {{\n{rows}}}\n"


def module() -> str:
    """The text of uids.py."""
    named = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[0]}
    kind = {uid: entry[1] for uid, entry in UID_dictionary.items()}
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
STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"


def name_of(uid: str) -> str:
    """The registered name of a UID, or the UID itself where the standard has none."""
    return STORAGE_SOP_CLASSES.get(uid) or OTHER_SOP_CLASSES.get(uid) or TRANSFER_SYNTAXES.get(uid) or uid
'''
    )


if __name__ == "__main__":
    TARGET.write_text(module(), encoding="utf-8")
