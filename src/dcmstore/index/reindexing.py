"""root folders -> an index that agrees with them, also beside a running receiver; may be broken off and begun again."""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dcmstore.index import walk
from dcmstore.index.database import Database, IndexTrouble
from dcmstore.index.entries import Root
from dcmstore.storage import examine

DAMAGED = ".damaged"  # behind the name of an index that can't be used any more
_BESIDE = ("-wal", "-shm")  # files of SQLite, without which the main one is not whole


@dataclass(slots=True)
class Reindexed:
    """How far it is: files seen, entered anew or again, and removed because they are gone."""

    seen: int = 0
    entered: int = 0
    removed: int = 0
    unread: int = 0  # files and folders that can't be read; what the index has of them stays
    kept: tuple[str, ...] = ()  # root folders that are empty now, whose files stay in the index


def open_anew(path: str, like: str) -> tuple[Database, bool]:
    """The index, and whether a damaged one was put aside for it. Raises IndexTrouble, OSError where it can't be.

    A new one belongs to who has the folder `like`.
    """
    try:
        return Database(path, like=like), False
    except IndexTrouble as trouble:
        if not trouble.is_damaged:
            raise
    _put_aside(path)
    return Database(path, like=like), True


def _put_aside(path: str) -> None:
    """Whoever has the old one open sees that it is replaced, and opens the new one."""
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path + suffix, path + DAMAGED + suffix)


def reindex(
    database: Database, roots: Iterable[Root], moved: Callable[[int], object], unread: walk.Unread
) -> Reindexed:
    """Make the index agree with the folders. `moved` is told of files that are done with.

    What has the size and time that the index knows is passed over, so that what was broken off goes on.
    """
    done = Reindexed()

    def note_unread(root: Root, path: str, error: OSError) -> None:
        done.unread += 1
        unread(root, path, error)

    for root in roots:
        for found in walk.files_of(root, note_unread):
            read = walk.read_all(root, walk.lacking(database, root, found), note_unread)
            current = walk.as_they_are(root, read)
            database.write(current)
            done.seen += len(found)
            done.entered += len(current)
            moved(len(found))
        if examine.is_away(root.system, root.without):
            if database.totals().get(root.name):
                done.kept = (*done.kept, root.name)
            continue
        done.removed += _remove_gone(database, root)
    database.prune()
    return done


def _remove_gone(database: Database, root: Root) -> int:
    return sum(database.remove_gone(root, [known.path for known in some]) for some in database.all_known(root.name))


def count(roots: Iterable[Root]) -> int:
    return sum(len(found) for root in roots for found in walk.files_of(root, _untold))


def _untold(root: Root, path: str, error: OSError) -> None:
    """Whoever reads it tells."""
