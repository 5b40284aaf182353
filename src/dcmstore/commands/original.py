"""settings -> what differs from DcmStoreService, each with its reason, for those who come from it.

What is said of it was observed: its releases 1.1, 1.3 and 1.4 were run and sent to. docs/migration.md has it all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dcmstore.config import Configuration
from dcmstore.settings import Settings


@dataclass(frozen=True, slots=True)
class _Difference:
    concerns: Callable[[Settings], bool]
    text: str


def _always(settings: Settings) -> bool:
    return True


def _named_by_uid(settings: Settings) -> bool:
    return not (settings.image_name_index and settings.folder_tree)


_DIFFERENCES = (
    _Difference(_named_by_uid, "files are called UID.dcm, not CT.UID: programs and people recognise them"),
    _Difference(
        lambda settings: settings.image_name_index,
        "a number that is taken gets an extension (CT_5_2); there the file was overwritten",
    ),
    _Difference(
        lambda settings: settings.dicomdir,
        "DICOMDIR lists the folders of the tree; there each association made new ones (CT_001, CT_002)",
    ),
    _Difference(
        lambda settings: not settings.folder_tree,
        "folder-tree= 0 files into IMG-DIR itself, as 1.1 and the manual; 1.3 and 1.4 made a folder for each patient",
    ),
    _Difference(
        lambda settings: settings.folder_tree,
        "names that Windows can't hold are made safe and get a suffix; there the object was lost, with success",
    ),
    _Difference(
        lambda settings: settings.sr_sub is False,
        "SRsub= 0 sends every structured report to RDSR-DIR, as the manual; 1.4 did so for two classes",
    ),
    _Difference(
        lambda settings: settings.duplicates == "both",
        "the same UID with other content is kept beside the first one; there the first one was overwritten",
    ),
    _Difference(_always, "an idle association lives for idle-timeout; 1.4 ended it after 5 seconds"),
)


def comes_from_it(configuration: Configuration) -> bool:
    """True for an ini that only that program's users have: one with its name for the AE title."""
    return configuration.spellings.get("local_ae") == "AE"


def differences(configuration: Configuration) -> Iterator[str]:
    """What will be otherwise than with DcmStoreService, under these settings."""
    for difference in _DIFFERENCES:
        if difference.concerns(configuration.settings):
            yield difference.text
