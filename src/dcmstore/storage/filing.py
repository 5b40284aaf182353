"""header + policy -> path: the only place where a peer's text becomes a path, name by name (names.py)."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dcmstore.storage import header, names, text
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
MAX_IDENTITY = 128  # characters; ten thousand of them are remembered, and a peer may send 16 kB each


class Root(Enum):
    """The two root folders, by their key in the ini."""

    IMAGES = "IMG-DIR"
    DOSE_REPORTS = "RDSR-DIR"


@dataclass(frozen=True, slots=True)
class FilingPolicy:
    """Which levels the tree has and how files are named; the fields bear the names of their keys in the ini.

    `sr_sub` is None where the file does not say: then dose reports alone have a root of their own. `media_names`
    is what `dicomdir= 1` needs: names that a DICOM file-set can hold. With `split_collisions` a folder has an owner.
    """

    folder_tree: bool = True
    order_by_patient_id: bool = True
    order_by_study: bool = True
    order_by_series: bool = True
    rdsr_tree: bool = False
    sr_sub: bool | None = None
    image_name_index: bool = False
    media_names: bool = False
    split_collisions: bool = False


class Owner(NamedTuple):
    """The patient or study that a folder is for. `tag` says which of the two: Patient ID or Study Instance UID."""

    tag: int
    identity: str
    has_media_name: bool  # its folder lies in a DICOM file-set


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an instance belongs: a root, the folders below it from the outside in, and a file name.

    `owners` are those of the folders, None for one that is shared by whatever its parent holds; it is empty where
    nothing is told apart, and owners.py gives the folders of others another name.
    """

    root: Root
    folders: tuple[str, ...]
    file_name: str
    owners: tuple[Owner | None, ...] = ()

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
    owners = _owners(values, policy) if policy.split_collisions else ()
    return Destination(root, _folders(values, policy), _file_name(sop_instance_uid, values, policy), owners)


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


def identity_of(tag: int, values: Mapping[int, bytes]) -> str:
    """Whom these header values belong to, never empty. A patient without an ID is known by name."""
    if tag == header.STUDY_INSTANCE_UID:
        return _bounded("study " + _plain(values.get(tag, b"")))
    character_set = values.get(header.SPECIFIC_CHARACTER_SET, b"")
    for tag, kind in ((header.PATIENT_ID, "patient "), (header.PATIENT_NAME, "name ")):
        value = values.get(tag, b"")
        if decoded := text.decode(value, character_set):
            return _bounded(kind + (_plain(value) if "\ufffd" in decoded else decoded))  # U+FFFD: something was lost
    return "nobody"


def _plain(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


def _bounded(identity: str) -> str:
    return identity if len(identity) <= MAX_IDENTITY else hashlib.sha256(identity.encode("utf-8")).hexdigest()


def _owners(values: Mapping[int, bytes], policy: FilingPolicy) -> tuple[Owner | None, ...]:
    """Of each of `_folders`. Without a level for studies, what is below a patient's folder is for all of them."""
    owners: list[Owner | None] = [Owner(header.PATIENT_ID, identity_of(header.PATIENT_ID, values), False)]
    if policy.order_by_study:
        study = identity_of(header.STUDY_INSTANCE_UID, values)
        owners.append(Owner(header.STUDY_INSTANCE_UID, study, policy.media_names))
    if policy.order_by_series:
        owners.append(None)
    return tuple(owners)


def _file_name(sop_instance_uid: str, values: Mapping[int, bytes], policy: FilingPolicy) -> str:
    """Only in a tree can files be named by number: in one folder for all, every second name would be taken."""
    if not policy.image_name_index:
        return names.file_name_of(sop_instance_uid)
    modality, number = values.get(header.MODALITY, b""), values.get(header.INSTANCE_NUMBER, b"")
    return names.index_name_of(modality, number, sop_instance_uid)
