"""a folder that two studies or patients ask for -> one for each, told by the files that lie in it.

The disk is what knows whose a folder is: the receiving path can't wait for an index, which may be behind, locked or
absent. A folder without objects goes to who asks first. Who comes later gets a suffix made of what he is, so that
each finds his folder again: after a restart, in another process, and when the first one has been removed.
"""

import base64
import hashlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from dcmstore.errors import CannotUnderstand
from dcmstore.storage import filing, names
from dcmstore.storage.claims import Claims
from dcmstore.storage.examine import examine
from dcmstore.storage.filing import Owner

MAX_LOOKS = 500  # folders listed and files opened to learn whose one folder is: about 40 ms, and once
MAX_SECONDS = 1.0  # of looking, where the disk is slow or headers are endless: who comes new to a folder waits
MAX_ENTRIES = 10_000  # of one folder; a larger one is looked at in part
MAX_FOLDERS = 10_000  # remembered, about 5 MB
_LEVELS = 2  # of folders below a master folder

_UNKNOWN = "unknown"  # whose a file is that was not opened; `identity_of` never says that
_NOTHING = ""  # a look that told nothing: at a folder, or at a file that is no object


def told_apart(name: str, owner: Owner) -> str:
    """The name for an owner who comes to a folder of this name that is somebody else's.

    It has the form of a name that was made safe, which no value has by itself (names.py); it may be nine characters
    longer than those.
    """
    digest = hashlib.sha256(f"{name}\0{owner.identity}".encode()).digest()
    if owner.has_media_name:
        return f"{name[:2]}_{base64.b32encode(digest).decode('ascii')[:5]}"
    return f"{name[: names.MAX_NAME - 9].rstrip(' .')}~{digest.hex()[:8]}"


@dataclass(slots=True)
class _Seen:
    """Who was found in a folder so far, or has asked for it; `is_whole` once there is no more to find."""

    identities: set[str] = field(default_factory=set)
    is_whole: bool = False


class Owners:
    """Whose the folders are that were asked for. One for all associations.

    Hold `lock` from asking for a name until its folder is made.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}  # by path, the last one asked for at the end

    def name_for(self, owner: Owner, parent: str, wanted: str, claims: Claims | None = None) -> str:
        """The name of the folder in `parent` that is the owner's from now on: the wanted one where it can be.

        With `claims`, also among processes; then it raises OSError where a claim can't be written.
        Objects of several owners may lie in one folder already; there each of them stays.
        """
        other = told_apart(wanted, owner)
        choice = [wanted, other, told_apart(other, owner)]  # that two owners make one name of 32 bits, happens once
        if os.path.isdir(os.path.join(parent, other)):  # his already; the wanted one may be free by now
            choice.insert(0, other)
        for name in choice:
            if self._is_for(owner, os.path.join(parent, name), claims):
                return name
        return choice[-1]  # nothing on this disk can be looked at: kept with others is better than lost

    def forget(self, folder: str) -> bool:
        """The folder was removed. Returns whether it was known."""
        return self._seen.pop(folder, None) is not None

    def _is_for(self, owner: Owner, folder: str, claims: Claims | None) -> bool:
        seen = self._seen[folder] = self._seen.pop(folder) if folder in self._seen else _Seen()
        if len(self._seen) > MAX_FOLDERS:
            del self._seen[next(iter(self._seen))]
        if not seen.is_whole and owner.identity not in seen.identities:
            self._look(owner, folder, seen)
        if not seen.identities and claims is not None and not self._claim(owner, folder, seen, claims):
            return False  # for now: the first file of whoever claims it tells whose it is
        if not seen.identities:
            seen.identities.add(owner.identity)
        return owner.identity in seen.identities

    def _claim(self, owner: Owner, folder: str, seen: _Seen, claims: Claims) -> bool:
        """False where another process takes a folder in which nobody has a file yet."""
        is_ours = claims.take(folder, owner.identity)
        self._look(owner, folder, seen)
        if seen.identities:
            claims.let_go(folder)
        elif not is_ours:
            seen.is_whole = False  # so look again next time
        return is_ours or bool(seen.identities)

    def _look(self, owner: Owner, folder: str, seen: _Seen) -> None:
        end = time.monotonic() + MAX_SECONDS
        for count, identity in enumerate(_looks(folder, owner.tag, _LEVELS), 1):
            if identity != _NOTHING:
                seen.identities.add(identity)
            if identity == owner.identity:
                return  # more may be in it, but only others would ask for that
            if count == MAX_LOOKS or time.monotonic() > end:
                seen.identities.add(_UNKNOWN)
                break
        seen.is_whole = True


def planned(owners: Owners, root: str, folders: tuple[str, ...], of: tuple[Owner | None, ...]) -> tuple[str, ...]:
    """The names that the folders of a Destination would get; nothing is made, but `owners` remembers who asked."""
    path, found = root, []
    for name, owner in zip(folders, of or (None,) * len(folders), strict=True):
        found.append(name if owner is None else owners.name_for(owner, path, name))
        path = os.path.join(path, found[-1])
    return tuple(found)


def _looks(folder: str, tag: int, levels: int) -> Iterator[str]:
    """Whose the files in a folder are, and in those below it, one of each in turn; a step costs one look."""
    try:
        with os.scandir(folder) as listed:
            entries = [(entry.path, _is_folder(entry)) for entry in itertools.islice(listed, MAX_ENTRIES)]
    except FileNotFoundError:
        return
    except OSError:
        yield _UNKNOWN
        return
    yield _NOTHING
    turns: deque[Iterator[str]] = deque()
    turns.append(_identity_in(path, tag) for path, is_folder in entries if not is_folder)
    if levels:
        turns.extend(_looks(path, tag, levels - 1) for path, is_folder in sorted(entries) if is_folder)
    while turns:
        identity = next(turns[0], None)
        if identity is None:
            turns.popleft()
            continue
        yield identity
        turns.rotate(-1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a link that leads nowhere, which the entry itself would raise."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _identity_in(path: str, tag: int) -> str:
    try:
        return filing.identity_of(tag, examine(path).values)
    except (CannotUnderstand, FileNotFoundError):
        return _NOTHING
    except OSError:
        return _UNKNOWN
