"""SOP class -> Directory Record Type: which record refers to an object (PS3.3 F.5)."""

from dcmstore import uids

NO_PATIENT = ""
# The records above a file's, and what tells two of a kind apart
UPPER = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# PS3.3 F.5: which record refers to which SOP class. A UID that ends in a dot stands for all below it; the longest
# that fits counts.
KINDS = {
    _STORAGE: "IMAGE",
    **dict.fromkeys((_STORAGE + "88.", _STORAGE + "78.6", _STORAGE + "79.1"), "SR DOCUMENT"),
    _STORAGE + "88.59": "KEY OBJECT DOC",
    **dict.fromkeys((_STORAGE + "11.", _STORAGE + "131"), "PRESENTATION"),
    _STORAGE + "9.": "WAVEFORM",
    _STORAGE + "9.100.": "WF PRESENTATION",
    _STORAGE + "4.2": "SPECTROSCOPY",
    _STORAGE + "66": "RAW DATA",
    **dict.fromkeys((_STORAGE + "66.1", _STORAGE + "66.3"), "REGISTRATION"),
    _STORAGE + "66.2": "FIDUCIAL",
    _STORAGE + "66.5": "SURFACE",
    _STORAGE + "66.6": "TRACT",
    _STORAGE + "67": "VALUE MAP",
    _STORAGE + "68.": "SURFACE SCAN",
    _STORAGE + "77.1.5.3": "STEREOMETRIC",
    **dict.fromkeys((_STORAGE + "78.", _STORAGE + "80."), "MEASUREMENT"),
    _STORAGE + "90.": "ASSESSMENT",
    _STORAGE + "91.": "ANNOTATION",
    _STORAGE + "104.": "ENCAP DOC",
    _STORAGE + "481.2": "RT DOSE",
    _STORAGE + "481.3": "RT STRUCTURE SET",
    **dict.fromkeys((_STORAGE + "481.5", _STORAGE + "481.8"), "RT PLAN"),
    **dict.fromkeys((_STORAGE + f"481.{number}" for number in (4, 6, 7, 9)), "RT TREAT RECORD"),
    **dict.fromkeys((_STORAGE + f"481.{number}" for number in range(10, 23)), "RADIOTHERAPY"),
    **dict.fromkeys((_STORAGE + "481.25", "1.2.840.10008.5.1.4.34."), "PLAN"),
    # Annex F has none for procedure protocols, nor any more for standalone overlays, curves and LUTs
    **dict.fromkeys((_STORAGE + number for number in ("200.", "8", "9", "10", "11", "129")), "PRIVATE"),
    # Hanging protocols, palettes, implant templates, inventories, directories: records of a file-set, not of a patient
    **dict.fromkeys((f"1.2.840.10008.5.1.4.{number}." for number in (38, 39, 43, 44, 45)), NO_PATIENT),
    **dict.fromkeys((_STORAGE + "201.", uids.MEDIA_STORAGE_DIRECTORY), NO_PATIENT),
}


def kind_of(sop_class_uid: str) -> str:
    """The Directory Record Type for a SOP class: PRIVATE where PS3.3 F has none, empty for objects of no patient."""
    fitting = [uid for uid in KINDS if uid == sop_class_uid or (uid[-1] == "." and sop_class_uid.startswith(uid))]
    return KINDS[max(fitting, key=len)] if fitting else "PRIVATE"
