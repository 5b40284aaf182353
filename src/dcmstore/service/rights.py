"""settings and a user -> what that user may not do yet, as commands where they are safe and as advice where not.

What `install` made, or finds empty, it gives to the user. What holds files of somebody it leaves alone, and says which
command would do. Only owners and modes are looked at: an access list may allow more than is known here.
"""

import grp
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from dcmstore import wiring
from dcmstore.config import Configuration
from dcmstore.service import unit

_Command: TypeAlias = tuple[str, ...]

_WRITE_FOLDER = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH
_PASS = stat.S_IXOTH
_READ = stat.S_IROTH

# Beside the root folders, what may lie in a folder that is dcmstore's own.
_OWN_NAMES = ("DcmStore*", "PresContextCfg.ini")
_WRITTEN_NAMES = (f"{wiring.LOG_NAME}*", wiring.JOURNAL_NAME)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, or one that is still to be made."""

    name: str
    group: str
    uid: int | None = None
    groups: frozenset[int] = frozenset()

    @classmethod
    def named(cls, name: str) -> "Account":
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return cls(name, name)
        groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)}
        return cls(name, grp.getgrgid(entry.pw_gid).gr_name, entry.pw_uid, frozenset(groups))

    def may(self, wanted: int, path: Path) -> bool:
        """`wanted` is in the bits of the others."""
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return self.uid == 0 or wanted == (status.st_mode >> shift) & wanted


@dataclass(slots=True)
class Rights:
    """Commands to run, what to say, and what the ini's folder was when they change it."""

    commands: list[_Command] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    folder_was: tuple[int, int] | None = None


def missing(configuration: Configuration, program: unit.Program, account: Account) -> Rights:
    """What the user needs and does not have."""
    rights = Rights()
    for folder in wiring.roots_of(configuration.settings).values():
        _for_root(rights, folder, account)
    if unit.writes_beside_ini(configuration.settings):
        _for_ini_folder(rights, configuration, account)
    read = unit.read_paths(configuration)
    for path in (configuration.path, *read[1:]):
        if path.is_file() and not account.may(_READ, path):
            _advise(rights, f"{account.name} can't read {path}", ("chgrp", account.group, path), ("chmod", "g+r", path))
    for folder in _closed({*unit.written_folders(configuration), *read, *program.folders}, account):
        _advise(rights, f"{account.name} can't pass through {folder}", ("chmod", "o+x", folder))
    return rights


def undo(record: unit.Record) -> list[_Command]:
    """The ini's folder as it was."""
    if record.folder_was is None:
        return []
    group, mode = record.folder_was
    folder = str(Path(record.ini).parent)
    return [("chgrp", str(group), folder), ("chmod", f"{mode:04o}", folder)]


def _for_root(rights: Rights, folder: Path, account: Account) -> None:
    own = ("chown", f"{account.name}:", str(folder))
    if not folder.exists():
        rights.commands += [("mkdir", "-p", str(folder)), own, ("chmod", "0750", str(folder))]
    elif account.may(_WRITE_FOLDER, folder):
        pass
    elif not folder.is_dir() or any(folder.iterdir()):
        about = f"{account.name} can't write {folder}, which holds files and was left as it is"
        _advise(rights, about, ("chown", "-R", f"{account.name}:", folder))
    else:
        rights.commands.append(own)


def _for_ini_folder(rights: Rights, configuration: Configuration, account: Account) -> None:
    """The log is made, and put aside, in it; the ini stays out of the user's hands, which is what `t` is for."""
    folder = unit.folder_of(configuration)
    written = sorted(path for name in _WRITTEN_NAMES for path in folder.glob(name))
    rights.commands += [
        ("chown", f"{account.name}:", str(path)) for path in written if path.stat().st_uid != account.uid
    ]
    if account.may(_WRITE_FOLDER, folder):
        return
    if others := _foreign(configuration):
        rights.advice.append(
            f"{account.name} can't write the log into {folder}, which is not for dcmstore alone ({others[0].name} is "
            "there too): put DcmStore.ini into a folder of its own, or set logfile= 0 and dicomdir= 0"
        )
        return
    status = folder.stat()
    rights.folder_was = status.st_gid, stat.S_IMODE(status.st_mode)
    rights.commands += [("chgrp", account.group, str(folder)), ("chmod", "g+rwx,+t", str(folder))]


def _foreign(configuration: Configuration) -> list[Path]:
    """What lies beside the ini and has nothing to do with dcmstore."""
    ours = {place for root in wiring.roots_of(configuration.settings).values() for place in (root, *root.parents)}
    beside = unit.folder_of(configuration).iterdir()
    return sorted(path for path in beside if path not in ours and not any(map(path.match, _OWN_NAMES)))


def _closed(folders: Iterable[Path], account: Account) -> Iterator[Path]:
    """Folders on the way that the user can't pass; those that the unit hides are passed in another way."""
    above = {parent for folder in folders for parent in folder.parents}
    for folder in sorted(above):
        if folder.is_dir() and not unit.is_hidden(folder) and not account.may(_PASS, folder):
            yield folder


def _advise(rights: Rights, about: str, *commands: tuple[object, ...]) -> None:
    shown = " && ".join(f"sudo {shlex.join(map(str, words))}" for words in commands)
    rights.advice.append(f"{about}: {shown}")
