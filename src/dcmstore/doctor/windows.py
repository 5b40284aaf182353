"""what only Windows has -> findings: network folders that a service can't see, and paths over 260 characters.

The questions to the system stand apart, at the end: what is made of the answers is the same on every system.
"""

import ntpath
import sys
from collections.abc import Callable, Iterator, Mapping

from dcmstore import wiring
from dcmstore.doctor.findings import Finding, Kind, note, ok
from dcmstore.settings import Settings

SERVICE_KEY = r"SYSTEM\CurrentControlSet\Services\DcmStoreService"
DEFAULT_ACCOUNT = r"NT AUTHORITY\LocalService"  # of a service that is installed without a choice
REMOTE = 4  # DRIVE_REMOTE, what GetDriveTypeW says of a letter that stands for a share

_WITHOUT_NAME = ("LocalService",)  # accounts that other computers know as nobody
_AS_COMPUTER = ("NetworkService", "LocalSystem")


def account_findings(
    folders: Mapping[str, str], account: str | None, drive_type: Callable[[str], int]
) -> Iterator[Finding]:
    """`folders` are paths by key of the ini; `account` is the installed service's, None without one."""
    kind = Kind.NOTE if account is None else Kind.FAIL
    name = (account or DEFAULT_ACCOUNT).rpartition("\\")[2]
    who = f"the service's account {account}" if account else f"a service, whose account is {DEFAULT_ACCOUNT},"
    for key, folder in folders.items():
        drive = ntpath.splitdrive(folder)[0]
        is_share = drive.startswith("\\\\") and not drive.startswith(("\\\\?\\", "\\\\.\\"))
        if is_share and name in _WITHOUT_NAME:
            text = f"{key} {folder} is on another computer, and {who} has no name there"
            advice = "`dcmstore service install --account NAME` with an account of the domain that may write there"
            yield Finding(kind, text, advice)
        elif is_share and name in _AS_COMPUTER:
            advice = "give that account rights to the share and to the folder"
            yield note(f"{key} {folder} is on another computer, which knows {who} as this computer's (NAME$)", advice)
        elif drive and drive_type(drive + "\\") == REMOTE:
            text = f"{key} {folder}: services do not know the letter {drive}, which is a share of who has logged on"
            yield Finding(
                kind, text, "write it as \\\\computer\\share\\folder, and give the service an account that may"
            )


def long_paths_finding(*, are_enabled: bool) -> Finding:
    if are_enabled:
        return ok("long paths are switched on in Windows")
    return note(
        "long paths are switched off in Windows: objects are filed under paths of any length all the same, but "
        "Explorer and other programs may not open those over 260 characters",
        "keep the root folders' paths short, or set LongPathsEnabled to 1 below "
        r"HKLM\SYSTEM\CurrentControlSet\Control\FileSystem and start Windows anew",
    )


if sys.platform == "win32":
    import ctypes
    import winreg

    def findings(settings: Settings) -> Iterator[Finding]:
        folders = {root.value: str(folder) for root, folder in wiring.roots_of(settings).items()}
        account = _value(SERVICE_KEY, "ObjectName")
        yield from account_findings(folders, str(account) if account else None, ctypes.windll.kernel32.GetDriveTypeW)
        enabled = _value(r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled")
        yield long_paths_finding(are_enabled=enabled == 1)

    def _value(key: str, name: str) -> object:
        """A value of the registry below HKEY_LOCAL_MACHINE, None where there is none."""
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
                return winreg.QueryValueEx(opened, name)[0]
        except OSError:
            return None
else:

    def findings(settings: Settings) -> Iterator[Finding]:
        yield from ()
