"""what only Windows has -> findings: network folders that a service can't see, and paths over 260 characters.

The questions to the system stand apart, at the end: what is made of the answers is the same on every system.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PureWindowsPath

from dcmstore import wiring
from dcmstore.doctor.findings import Finding, Kind, note, ok
from dcmstore.service import windows_rights
from dcmstore.service.windows_rights import Reach
from dcmstore.settings import Settings

# Of an account that has a name there, only the other computer knows what it may do.
_KINDS = {Reach.NOBODY: Kind.FAIL, Reach.MACHINE: Kind.NOTE}


def account_findings(
    folders: Mapping[str, str], account: str | None, drive_type: Callable[[str], int]
) -> Iterator[Finding]:
    """`folders` are paths by key of the ini; `account` is the installed service's, None without one."""
    roots = {key: PureWindowsPath(folder) for key, folder in folders.items()}
    for found in windows_rights.remote_roots(roots, account, lambda path: windows_rights.is_remote(path, drive_type)):
        if found.reach in _KINDS:
            yield Finding(Kind.NOTE if account is None else _KINDS[found.reach], found.text, found.advice)


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

    from dcmstore.service import SERVICE_NAME, windows_setup
    from dcmstore.service.advapi import Advapi, CallError

    _FILE_SYSTEM = r"SYSTEM\CurrentControlSet\Control\FileSystem"

    def findings(settings: Settings) -> Iterator[Finding]:
        folders = {root.value: str(folder) for root, folder in wiring.roots_of(settings).items()}
        yield from account_findings(folders, _account(), ctypes.windll.kernel32.GetDriveTypeW)
        yield long_paths_finding(are_enabled=_value(_FILE_SYSTEM, "LongPathsEnabled") == 1)

    def _account() -> str | None:
        """The account of our service; None where there is none, or somebody else's."""
        try:
            setup = Advapi.of_windows().setup(SERVICE_NAME)
        except CallError:
            return None
        return setup.account if windows_setup.ini_of(setup) else None

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
