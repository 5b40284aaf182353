"""settings -> what the service may do on Windows: rights on its folders and files, and a rule of the firewall.

The rights belong to the service itself, by its SID, whatever account it runs under: other services of that account get
none of them. Each is given by a command of Windows, and taken back by another.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import TypeAlias

from dcmstore import wiring
from dcmstore.config import Configuration
from dcmstore.server import endpoints_of
from dcmstore.service import SERVICE_NAME, unit
from dcmstore.service.manager import DISPLAY_NAME
from dcmstore.settings import Settings

Command: TypeAlias = tuple[str, ...]

# As icacls has them: for files (OI) and folders (CI) in a folder, no deeper than that (NP); to change (M) or read.
CHANGE = "(OI)(CI)(M)"
CHANGE_FILES = "(OI)(NP)(M)"
READ = "(OI)(CI)(RX)"
READ_FILES = "(OI)(NP)(RX)"
READ_FILE = "(R)"

RULE_NAME = f"{DISPLAY_NAME} ({SERVICE_NAME})"  # of the firewall

# The account of a service that is installed without a choice; nobody asks for its password
LOCAL_SERVICE = "NT AUTHORITY\\LocalService"

DRIVE_REMOTE = 4  # what GetDriveTypeW says of a letter that stands for a share


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of the service on a folder or a file."""

    path: str
    rights: str

    def give(self) -> Command:
        return ("icacls", self.path, "/grant", f"*{service_sid()}:{self.rights}", "/Q")


def service_sid(name: str = SERVICE_NAME) -> str:
    """Windows makes it of the name, so it is known before the service is installed, and the same on every machine."""
    numbers = struct.unpack("<5I", hashlib.sha1(name.upper().encode("utf-16-le"), usedforsecurity=False).digest())
    return "-".join(["S-1-5-80", *map(str, numbers)])


def take_back(path: str) -> Command:
    """All that was given there."""
    return ("icacls", path, "/remove:g", f"*{service_sid()}", "/Q")


def grants(configuration: Configuration, program: Sequence[Path], is_remote: Callable[[Path], bool]) -> list[Grant]:
    """What the service needs; `program` is the folders that it is read from.

    What lies on other machines is left out: there the service has no SID, and its account must do.
    """
    settings, folder = configuration.settings, unit.folder_of(configuration)
    wanted = [
        *((path, READ) for path in program),
        *((path, CHANGE) for path in unit.copy_folders(settings)),
        # Log, journal, index and queue are made in there. What lies deeper, such as programs, stays as it is.
        (folder, CHANGE_FILES if unit.writes_beside_ini(settings) else READ_FILES),
        *((path, READ_FILE) for path in unit.read_paths(configuration) if path != folder),  # keys, users: anywhere
        *((path, CHANGE) for path in wiring.roots_of(settings).values()),
    ]
    return [Grant(str(path), rights) for path, rights in dict.fromkeys(wanted) if not is_remote(path)]


# --- folders on other machines -------------------------------------------------------------------


class Reach(Enum):
    """As whom a service comes to a folder on another machine."""

    NOBODY = "nobody"  # and so it never gets there
    MACHINE = "machine"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class RemoteRoot:
    """A root folder on another machine: how it stands with it, and what has to be done."""

    reach: Reach
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}"


def is_remote(path: PurePath, drive_type: Callable[[str], int]) -> bool:
    """`drive_type` is GetDriveTypeW, which does not know a share that is away just now."""
    return _is_share(path) or drive_type(path.anchor) == DRIVE_REMOTE


def _is_share(path: PurePath) -> bool:
    drive = path.drive.upper()
    return drive.startswith("\\\\") and (drive.startswith("\\\\?\\UNC") or drive[2:4] not in ("?\\", ".\\"))


def remote_roots(
    roots: Mapping[str, PurePath], account: str | None, is_remote: Callable[[PurePath], bool]
) -> Iterator[RemoteRoot]:
    """`roots` are folders by key of the ini; `account` is the installed service's, None without one."""
    reach = _reach(account or LOCAL_SERVICE)
    who = f"the service's account {account}" if account else f"a service, whose account is {LOCAL_SERVICE},"
    for key, folder in roots.items():
        where = f"{key} {folder} is on another computer"
        if not is_remote(folder):
            continue
        if not _is_share(folder):
            text = f"{key} {folder}: services do not know the letter {folder.drive}, a share of who has logged on"
            advice = "write it as \\\\computer\\share\\folder, and give the service an account that may write there"
            yield RemoteRoot(Reach.NOBODY, text, advice)
        elif reach is Reach.NOBODY:
            begin = "delete the service, and install it with" if account else "`dcmstore service install` needs"
            advice = f"{begin} `--account DOMAIN\\NAME` of somebody who may write there"
            yield RemoteRoot(reach, f"{where}, and {who} has no name there", advice)
        elif reach is Reach.MACHINE:
            advice = "give that account the right to change files, on the share and in the folder"
            yield RemoteRoot(reach, f"{where}, which knows {who} as this computer's (NAME$)", advice)
        else:
            yield RemoteRoot(reach, where, f"{account} needs the right to change files there")


def _reach(account: str) -> Reach:
    name = account.casefold().removeprefix(".\\")
    if name == LOCAL_SERVICE.casefold():
        return Reach.NOBODY
    is_machine = name == "localsystem" or name.startswith(("nt authority\\", "nt service\\"))
    return Reach.MACHINE if is_machine else Reach.ACCOUNT


# --- accounts ------------------------------------------------------------------------------------


def account_named(wanted: str) -> str:
    """An account as Windows has it; a name alone is one of this machine."""
    if not wanted:
        return LOCAL_SERVICE
    is_whole = "\\" in wanted or "@" in wanted or wanted.casefold() == "localsystem"
    return wanted if is_whole else f".\\{wanted}"


def needs_password(account: str) -> bool:
    """Windows knows those of its own accounts, and of accounts that a domain manages, which end with $."""
    name = account.casefold()
    return not (name.startswith(("nt authority\\", "nt service\\")) or name == "localsystem" or name.endswith("$"))


# --- the firewall --------------------------------------------------------------------------------


def ports_of(settings: Settings) -> str:
    """As a rule has them. Port 0 is a free one, which no rule can know."""
    return ",".join(str(endpoint.port) for endpoint in endpoints_of(settings) if endpoint.port)


def open_firewall(ports: str, program: str) -> Command:
    return (
        "netsh", "advfirewall", "firewall", "add", "rule", f"name={RULE_NAME}", "dir=in", "action=allow",
        "protocol=TCP", f"localport={ports}", f"program={program}",
    )  # fmt: skip


def close_firewall() -> Command:
    return ("netsh", "advfirewall", "firewall", "delete", "rule", f"name={RULE_NAME}")
