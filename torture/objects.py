"""a UID and a version -> the data set that belongs to them, and its place: so every file on disk can be judged."""

import random
from dataclasses import dataclass
from pathlib import PurePath

from dcmstore.storage.filing import Root
from tests.support import CT, ENHANCED_SR, XRAY_DOSE_SR, data_set, with_title

SOP_CLASSES = (CT, XRAY_DOSE_SR, ENHANCED_SR)  # an Enhanced SR is received as an image, until its title is read
SHARES = (8, 1, 1)
SIZES = (0, 10, 1_000, 8_000, 70_000, 600_000)  # bytes of pixels: within one PDU, over several, over several writes
PATIENTS = 1_000  # many: most objects need folders that are not there yet


@dataclass(frozen=True, slots=True)
class Sending:
    """A data set to send: its UID, and which of the different data sets under that UID it is."""

    uid: str
    version: int = 0


def sop_class_of(uid: str) -> str:
    return random.Random(uid).choices(SOP_CLASSES, SHARES)[0]


def content_of(sending: Sending) -> bytes:
    """The data set, which the versions of a UID differ in the pixels of."""
    source = random.Random(f"{sending.uid} {sending.version}")
    sop_class = sop_class_of(sending.uid)
    patient, study, series = _folders_of(sending.uid)
    encoded = data_set(
        sending.uid,
        sop_class=sop_class,
        patient_id=patient.encode(),
        study_id=study.encode(),
        series_number=series.encode(),
        pixels=sending.version.to_bytes(4, "little") + source.randbytes(source.choice(SIZES)),
    )
    return with_title(encoded) if sop_class == ENHANCED_SR else encoded


def place_of(uid: str) -> tuple[Root, PurePath]:
    """The root and the folder below it where the default settings file this UID."""
    if sop_class_of(uid) == CT:
        return Root.IMAGES, PurePath(*_folders_of(uid))
    return Root.DOSE_REPORTS, PurePath()


def _folders_of(uid: str) -> tuple[str, str, str]:
    source = random.Random(f"folders of {uid}")
    return f"P{source.randrange(PATIENTS)}", f"ST{source.randrange(3)}", str(source.randrange(5))
