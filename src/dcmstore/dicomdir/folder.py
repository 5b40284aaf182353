"""a patient's folder -> its DICOMDIR: an update makes the directory agree with the files."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcmstore import alone
from dcmstore.dicomdir import records
from dcmstore.dicomdir.data_sets import pydicom
from dcmstore.dicomdir.directory import Directory, decode, new_directory
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import files

NAME = "DICOMDIR"
MAX_COMPONENTS = 8  # of a File ID (PS3.10 8.2)
_COMPONENT = re.compile(r"[A-Z0-9_]{1,8}")  # PS3.10 8.2 and 8.5
_NO_FILE_ID = "its name can't be a File ID: one to eight names of A-Z, 0-9 and _, of one to eight each"


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did: files in the directory now, of those added or renewed, and what was taken out.

    `left_out` gives the reason for each file that could not be listed; `put_aside` is where an unreadable
    DICOMDIR went.
    """

    files: int
    added: int
    dropped: int
    left_out: dict[str, str]
    put_aside: str = ""


def update(folder: str, paths: Iterable[str] = ()) -> Updated:
    """Make folder/DICOMDIR agree with the files below the folder; the records of `paths` are renewed.

    Files that are listed already are not opened, and a directory that is right is not written. Raises OSError;
    the DICOMDIR is then what it was, or stands aside if it can't be read.
    """
    path = os.path.join(folder, NAME)
    file_ids = {given: _file_id(folder, given) for given in paths}
    left_out = {given: _NO_FILE_ID for given, file_id in file_ids.items() if not file_id and os.path.lexists(given)}
    # a value is carried as it is; and what `import` and the receiver write at once would be half a file
    with alone.in_turn(Path(folder)), pydicom.config.disable_value_validation():
        raw, directory, put_aside = _open(path)
        present = dict.fromkeys(_walk(folder))
        gone = [file_id for file_id in directory.places if file_id not in present]
        found = [file_id for file_id in present if file_id not in directory.places]
        coming = [file_id for file_id in dict.fromkeys([*file_ids.values(), *found]) if file_id in present]
        for file_id in coming:
            source = os.path.join(folder, *file_id.split("\\"))
            try:
                directory.add(file_id, records.read(source, file_id))
            except (CannotUnderstand, OSError) as error:
                left_out[source] = str(error)
                gone += [file_id] if file_id in directory.places else []
        for file_id in gone:
            directory.remove(file_id)
        added = sum(file_id in directory.places for file_id in coming)
        encoded = directory.encode()
        if encoded != raw and (raw or directory.places):
            files.write_whole(path, encoded)
    return Updated(len(directory.places), added, len(gone), left_out, put_aside)


def _open(path: str) -> tuple[bytes, Directory, str]:
    """The bytes at a path, the directory they are or a new one, and where the file went if it could not be read."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return b"", new_directory(), ""
    try:
        return raw, decode(raw), ""
    except CannotUnderstand:
        return raw, new_directory(), _put_aside(path)


def _put_aside(path: str) -> str:
    """Give a file another name that nothing has; return it."""
    names = (f"{path}.bad{number if number > 1 else ''}" for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    os.rename(path, aside)
    return aside


def _walk(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The File IDs of all files below a folder that can have one, in the order of their names. Raises OSError."""
    with os.scandir(os.path.join(folder, *above)) as entries:
        found = sorted((entry for entry in entries if _COMPONENT.fullmatch(entry.name)), key=lambda entry: entry.name)
    for entry in found:
        components = (*above, entry.name)
        if entry.is_file(follow_symlinks=False) and entry.name != NAME:
            yield "\\".join(components)
        elif entry.is_dir(follow_symlinks=False) and len(components) < MAX_COMPONENTS:
            yield from _walk(folder, components)


def _file_id(folder: str, path: str) -> str:
    """The File ID of a file below a folder, empty where its name can't be one."""
    components = os.path.relpath(path, folder).split(os.sep)
    is_fit = len(components) <= MAX_COMPONENTS and all(map(_COMPONENT.fullmatch, components))
    return "\\".join(components) if is_fit else ""
