"""what a program said -> the same without the patient of whom it speaks, as the log has its paths."""

import os
import re

from dcmstore.jobs.work import Facts

_OF_PATIENT = ("patient_id", "patient_name", "birth_date", "accession_number")
MASK = "*"


def masked(text: str, facts: Facts) -> str:
    """With a sign in place of what names the patient: the values, the parts of the name, and its folder."""
    words = {str(facts.get(name, "")) for name in _OF_PATIENT}
    words |= set(re.split(r"[\^=\s\\]+", str(facts.get("patient_name", ""))))
    words.add(_master_folder(facts))
    wanted = sorted((re.escape(word) for word in words if word), key=len, reverse=True)
    if not wanted:
        return text
    return re.sub(rf"(?<![^\W_])(?:{'|'.join(wanted)})(?![^\W_])", MASK, text, flags=re.IGNORECASE)


def _master_folder(facts: Facts) -> str:
    """The name of the folder right below the root; empty where all lies in the root."""
    root, folder = str(facts.get("root", "")), str(facts.get("folder", ""))
    if not root or not folder.startswith(root):
        return ""
    return folder.removeprefix(root).replace(os.sep, "/").strip("/").partition("/")[0]
