"""header + policy -> path: the only place where a peer's text becomes a path, name by name (names.py)."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from dcmstore.storage import header, names
from dcmstore.storage.names import NO_PATIENT_ID, NO_PATIENT_NAME, NO_SERIES_NUMBER, NO_STUDY_ID, Placeholder

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


class Root(Enum):
    """The two root folders, by their key in the ini."""

    IMAGES = "IMG-DIR"
    DOSE_REPORTS = "RDSR-DIR"


@dataclass(frozen=True, slots=True)
class FilingPolicy:
    """Which levels the tree has and how files are named; the fields bear the names of their keys in the ini.

    `sr_sub` is None where the file does not say: then dose reports alone have a root of their own. `media_names`
    is what `dicomdir= 1` needs: names that a DICOM file-set can hold.
    """

    folder_tree: bool = True
    order_by_patient_id: bool = True
    order_by_study: bool = True
    order_by_series: bool = True
    rdsr_tree: bool = False
    sr_sub: bool | None = None
    image_name_index: bool = False
    media_names: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an instance belongs: a root, the folders below it from the outside in, and a file name."""

    root: Root
    folders: tuple[str, ...]
    file_name: str

    def file_names(self) -> Iterator[str]:
        """The file name, then the numbered ones to take while others hold it."""
        yield self.file_name
        for number in itertools.count(2):
            yield names.numbered(self.file_name, number)


def is_structured_report(sop_class_uid: str) -> bool:
    return sop_class_uid.startswith(_SR_ROOT)


def needs_title(sop_class_uid: str, policy: FilingPolicy) -> bool:
    """True where only its title tells which root a structured report belongs to."""
    is_undecided = is_structured_report(sop_class_uid) and sop_class_uid not in DOSE_SOP_CLASSES
    return policy.sr_sub is None and is_undecided


def root_of(sop_class_uid: str, values: Mapping[int, bytes], policy: FilingPolicy) -> Root:
    """Images or reports, by SOP class, else by the title in `values`: codes count, not their meanings."""
    if policy.sr_sub is not None:
        goes_apart = is_structured_report(sop_class_uid) and not policy.sr_sub
        return Root.DOSE_REPORTS if goes_apart else Root.IMAGES
    if sop_class_uid in DOSE_SOP_CLASSES:
        return Root.DOSE_REPORTS
    title = values.get(header.CODE_VALUE, b""), values.get(header.CODING_SCHEME_DESIGNATOR, b"")
    if is_structured_report(sop_class_uid) and tuple(part.strip(b" \0") for part in title) in DOSE_TITLES:
        return Root.DOSE_REPORTS
    return Root.IMAGES


def destination(
    sop_class_uid: str, sop_instance_uid: str, values: Mapping[int, bytes], policy: FilingPolicy
) -> Destination:
    """Where the instance with these header values (raw bytes by tag) belongs. The UID must be `uids.is_uid`."""
    root = root_of(sop_class_uid, values, policy)
    has_tree = policy.rdsr_tree if root is Root.DOSE_REPORTS else policy.folder_tree
    if not has_tree:
        return Destination(root, (), names.file_name_of(sop_instance_uid))
    return Destination(root, _folders(values, policy), _file_name(sop_instance_uid, values, policy))


def quarantine(root: Root, sop_instance_uid: str) -> Destination:
    """Where an instance is kept that can't be filed."""
    return Destination(root, (names.QUARANTINE,), names.file_name_of(sop_instance_uid))


def _folders(values: Mapping[int, bytes], policy: FilingPolicy) -> tuple[str, ...]:
    character_set = values.get(header.SPECIFIC_CHARACTER_SET, b"")
    if policy.order_by_patient_id:
        tag, placeholder = header.PATIENT_ID, NO_PATIENT_ID
    else:
        tag, placeholder = header.PATIENT_NAME, NO_PATIENT_NAME
    # The master folder is outside the file-set, whose DICOMDIR it holds.
    master = names.folder_name(values.get(tag, b""), character_set, placeholder)
    name_of = names.media_folder_name if policy.media_names else names.folder_name
    levels: list[tuple[int, Placeholder]] = []
    if policy.order_by_study:
        levels.append((header.STUDY_ID, NO_STUDY_ID))
    if policy.order_by_series:
        levels.append((header.SERIES_NUMBER, NO_SERIES_NUMBER))
    return master, *(name_of(values.get(tag, b""), character_set, placeholder) for tag, placeholder in levels)


def _file_name(sop_instance_uid: str, values: Mapping[int, bytes], policy: FilingPolicy) -> str:
    """Only in a tree can files be named by number: in one folder for all, every second name would be taken."""
    if not policy.image_name_index:
        return names.file_name_of(sop_instance_uid)
    modality, number = values.get(header.MODALITY, b""), values.get(header.INSTANCE_NUMBER, b"")
    return names.index_name_of(modality, number, sop_instance_uid)
