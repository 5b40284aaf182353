"""settings and a user -> what that user may not do yet: as commands where they are safe, as advice where not.

What lies in a folder of dcmstore's own is opened to the group of the user, and `delete` shuts it again. A root folder
that is empty is given to the user. What holds files of somebody is left alone, and the advice says which
command would do. Owners and modes are looked at; root also tries as that user, for an access list may allow more.
"""

import grp
import os
import pwd
import shlex
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from dcmstore import jobs, profile, wiring
from dcmstore.config import Configuration
from dcmstore.service import unit
from dcmstore.service.manager import DISPLAY_NAME

Command: TypeAlias = tuple[str, ...]
Was: TypeAlias = tuple[str, int, int]  # a path, the number of its group, its mode

READ, WRITE, PASS = stat.S_IROTH, stat.S_IWOTH, stat.S_IXOTH

_PROFILES = (profile.FILE_NAME, profile.OTHER_FILE_NAME)
# Beside the root folders and the files that the ini names, what may lie in a folder that is dcmstore's own.
_OWN_NAMES = ("DcmStore*", *_PROFILES)
_TESTS = {READ: 'test -r "$1"', WRITE: 'test -w "$1"', PASS: 'test -x "$1"'}  # how a shell asks for it
_WRITTEN_NAMES = (
    *(f"{name}*" for name in (wiring.LOG_NAME, wiring.AUDIT_NAME, wiring.INDEX_NAME, jobs.FILE_NAME)),
    wiring.JOURNAL_NAME,
)


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
        """`wanted` is in READ, WRITE and PASS. Raises OSError where the path can't be looked at."""
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return self.uid == 0 or wanted == (status.st_mode >> shift) & wanted

    def can(self, wanted: int, path: Path) -> bool:
        """The same, tried by root as that user. Raises OSError where the path can't be looked at.

        A service passes through none of the folders that its unit hides, so there the modes tell more.
        """
        if self.uid is None or os.geteuid() != 0 or unit.is_hidden(path):
            return self.may(wanted, path)
        path.stat()
        group = pwd.getpwnam(self.name).pw_gid
        done = subprocess.run(
            ["/bin/sh", "-c", " && ".join(test for bit, test in _TESTS.items() if wanted & bit), "sh", str(path)],
            user=self.uid,
            group=group,
            extra_groups=os.getgrouplist(self.name, group),
            cwd="/",
            check=False,
        )
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class _Need:
    """What the user must be able to do to a path, and the change of its mode that would allow it to the group."""

    path: Path
    wanted: int
    mode: str
    words: str
    instead: str = ""  # what to do where the group can't be allowed


@dataclass(slots=True)
class Rights:
    """Commands to run, what to say, and how things were that the commands change."""

    commands: list[Command] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    were: list[Was] = field(default_factory=list)


def missing(configuration: Configuration, program: unit.Program, account: Account) -> Rights:
    """What the user needs and does not have. Raises OSError where a folder can't be looked at."""
    rights = Rights()
    own = unit.folder_of(configuration).resolve()  # what a link there leads to may be somebody else's
    foreign = _foreign(configuration)
    for need in (*_needs(configuration), *_passes(configuration, program)):
        if account.may(need.wanted, need.path):
            continue
        if not foreign and need.path.resolve().is_relative_to(own):
            _open(rights, need, account)
        elif not account.can(need.wanted, need.path):
            _advise(rights, need, account)
    for folder in wiring.roots_of(configuration.settings).values():
        _give_root(rights, folder, account)
    if unit.writes_beside_ini(configuration.settings):
        rights.commands += _gifts_of_logs(unit.folder_of(configuration), account)
    return rights


def undo(record: unit.Record) -> list[Command]:
    """What was opened as it was, as far as it is still there."""
    return [
        command
        for path, group, mode in reversed(record.were)  # the oldest counts
        if Path(path).exists()
        for command in (("chgrp", str(group), path), ("chmod", f"{mode:04o}", path))
    ]


# --- users ---------------------------------------------------------------------------------------


def useradd(account: Account) -> Command:
    group = ("--gid", account.group) if _members(account.group) is not None else ("--user-group",)
    no_home = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
    return ("useradd", "--system", *group, *no_home, "--comment", DISPLAY_NAME, account.name)


def userdel(name: str) -> list[Command]:
    """`userdel` removes the group too, but not while persons are in it."""
    return [("userdel", name), *([("groupdel", name)] if _members(name) else [])]


def _members(group: str) -> list[str] | None:
    """Who is in a group beside those whose own it is; None when there is no such group."""
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return None


# --- what is needed ------------------------------------------------------------------------------


def _needs(configuration: Configuration) -> Iterator[_Need]:
    folder, *named = unit.read_paths(configuration)
    if unit.writes_beside_ini(configuration.settings):
        # `t`: the service makes and puts aside its log there, and can't put another ini in the place of this one.
        instead = "put DcmStore.ini into a folder of its own, or set logfile= 0, dicomdir= 0, index= 0 and audit= off"
        yield _Need(folder, READ | WRITE | PASS, "g+rwx,+t", "write log, index and queue into", instead)
    else:
        yield _Need(folder, READ | PASS, "g+rx", "read")
    for copies in unit.copy_folders(configuration.settings):
        if copies.is_dir():
            yield _Need(copies, READ | WRITE | PASS, "g+rwx", "copy into")
    for path in (configuration.path.absolute(), *(folder / name for name in _PROFILES), *named):
        if path.exists():
            yield _Need(path, READ, "g+r", "read")


def _passes(configuration: Configuration, program: unit.Program) -> Iterator[_Need]:
    """Folders on the way. Those that the unit hides are passed in another way: it lets in what lies in them."""
    settings = configuration.settings
    data = (*wiring.roots_of(settings).values(), *unit.copy_folders(settings))
    places = {*data, *unit.read_paths(configuration), *program.folders}
    own = unit.folder_of(configuration)
    for folder in sorted({parent for place in places for parent in place.parents} - {own}):
        if folder.is_dir() and (own in folder.parents or not unit.is_hidden(folder)):
            yield _Need(folder, PASS, "g+x", "pass through")


def _foreign(configuration: Configuration) -> list[Path]:
    """What lies beside the ini and has nothing to do with dcmstore."""
    settings = configuration.settings
    named = [*wiring.roots_of(settings).values(), *unit.copy_folders(settings), *unit.read_paths(configuration)]
    ours = {configuration.path.absolute(), *(place for path in named for place in (path, *path.parents))}
    beside = unit.folder_of(configuration).iterdir()
    return sorted(path for path in beside if path not in ours and not any(map(path.match, _OWN_NAMES)))


# --- what is done about it -----------------------------------------------------------------------


def _open(rights: Rights, need: _Need, account: Account) -> None:
    status = need.path.stat()
    rights.were.append((str(need.path), status.st_gid, stat.S_IMODE(status.st_mode)))
    rights.commands += [("chgrp", account.group, str(need.path)), ("chmod", need.mode, str(need.path))]


def _advise(rights: Rights, need: _Need, account: Account) -> None:
    about = f"the user {account.name} can't {need.words} {need.path}"
    if need.instead:
        do = need.instead
    elif need.wanted == PASS:
        do = _sudo("chmod", "o+x", str(need.path))
    else:
        do = f"{_sudo('chgrp', account.group, str(need.path))} && {_sudo('chmod', need.mode, str(need.path))}"
    rights.advice.append(f"{about}: {do}")


def _give_root(rights: Rights, folder: Path, account: Account) -> None:
    if account.can(READ | WRITE | PASS, folder):
        return
    if not any(folder.iterdir()):
        rights.commands.append(("chown", f"{account.name}:", str(folder)))
    else:
        do = _sudo("chown", "-R", f"{account.name}:", str(folder))
        rights.advice.append(
            f"the user {account.name} can't write {folder}, which holds files and stays as it is: {do}"
        )


def _gifts_of_logs(folder: Path, account: Account) -> list[Command]:
    """Those that another user's `dcmstore run` has left: they are written on."""
    written = sorted(path for name in _WRITTEN_NAMES for path in folder.glob(name))
    return [("chown", f"{account.name}:", str(path)) for path in written if not account.may(READ | WRITE, path)]


def _sudo(*words: str) -> str:
    return f"sudo {shlex.join(words)}"
