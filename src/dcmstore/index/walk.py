"""root folders -> the files in them that the index lacks, some at a time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dcmstore.errors import CannotUnderstand
from dcmstore.index import entries
from dcmstore.index.database import Database
from dcmstore.index.entries import Entry, Root
from dcmstore.storage import names

AT_ONCE = 100  # files looked at before somebody else gets a turn: as many as notes in a transaction
_OF_A_DISK = ("lost+found", "System Volume Information")  # a file system's own, which nobody may read

Unread = Callable[[Root, str, OSError], object]  # told of a file or folder below a root that can't be read, and why


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a root folder; its path has slashes."""

    path: str
    size: int
    modified: int


def files_of(root: Root, unread: Unread) -> Iterator[list[Found]]:
    """Every file below a root, folder by folder, without what can't be looked at or has no name in Unicode."""
    found: list[Found] = []
    for parent, below, file_names in os.walk(root.system, onerror=partial(_tell_of_folder, root, unread)):
        if parent == root.system:
            below[:] = [name for name in below if name not in names.OUR_FOLDERS]
        below[:] = sorted(name for name in below if os.path.join(parent, name) not in root.without)
        folder = _below(root, parent)
        for name in sorted(file_names):
            path = name if folder == "." else f"{folder}/{name}"
            if not _is_text(path):
                continue
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:
                continue  # gone meanwhile
            except OSError as error:
                unread(root, path, error)
                continue
            found.append(Found(path, status.st_size, status.st_mtime_ns))
            if len(found) >= AT_ONCE:
                yield found
                found = []
    if found:
        yield found


def _below(root: Root, path: str) -> str:
    return os.path.relpath(path, root.system).replace(os.sep, "/")


def _tell_of_folder(root: Root, unread: Unread, error: OSError) -> None:
    folder = _below(root, error.filename)
    if not isinstance(error, FileNotFoundError) and folder not in _OF_A_DISK:
        unread(root, folder, error)


def lacking(database: Database, root: Root, found: Sequence[Found]) -> list[str]:
    """Those of these files that the index does not have as they are, by size and time."""
    known = database.known(root.name, [file.path for file in found])
    return [
        file.path
        for file in found
        if file.path not in known or (known[file.path].size, known[file.path].modified) != (file.size, file.modified)
    ]


def read_all(root: Root, paths: Iterable[str], unread: Unread) -> list[Entry]:
    """An entry for each that is a DICOM object."""
    read = []
    for path in paths:
        try:
            read.append(entries.read(root, path))
        except (CannotUnderstand, FileNotFoundError):
            continue  # another file, or gone meanwhile
        except OSError as error:
            unread(root, path, error)
    return read


def as_they_are(root: Root, read: Iterable[Entry]) -> list[Entry]:
    """Those that nobody has replaced since they were read: who did has a newer entry."""
    kept = []
    for entry in read:
        try:
            status = os.stat(root.path_of(entry.path))
        except OSError:
            continue
        if (status.st_size, status.st_mtime_ns) == (entry.size, entry.modified):
            kept.append(entry)
    return kept


def catch_up(
    database: Database, roots: Iterable[Root], found_new: Callable[[Sequence[Entry]], None], unread: Unread
) -> Iterator[int]:
    """Enter what the index does not have at all, a part at each step; yields how many files were entered at it.

    `found_new` is told of them before. What it has and what is different now stays as it is there, for `verify` to
    find.
    """
    for root in roots:
        for found in files_of(root, unread):
            known = database.known(root.name, [file.path for file in found])
            read = read_all(root, [file.path for file in found if file.path not in known], unread)
            added = as_they_are(root, read)
            found_new(added)
            database.write(added)
            yield len(added)


def _is_text(path: str) -> bool:
    """False for a name whose bytes are no UTF-8; no file of ours has one, and a database can't hold it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
