"""`dcmstore user`: a name and a passcode -> a line of the file of users; and its names."""

import argparse
import errno
import getpass
import os
import sys
from dataclasses import replace
from pathlib import Path

from dcmstore import needs, users
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.storage import files
from dcmstore.storage.files import Ownership
from dcmstore.users import Users

FILE_NAME = "DcmStore.users"  # where the ini names none
NEW_MODE = 0o640  # at most: who receives may read it as a member of the ini's group


def add(options: argparse.Namespace) -> int:
    """Ask for a passcode; it takes the place of the one that the user may have."""
    users.check_name(options.name)
    path, known = _users(options.config)
    passcode = _ask_passcode(options.name)
    word = "changed" if options.name in known else "added"
    _write(path, options.config, known.with_user(options.name, passcode))
    print(f"{word} user {options.name} in {path}; `dcmstore reload` lets a running receiver know")
    return 0


def remove(options: argparse.Namespace) -> int:
    path, known = _users(options.config)
    if options.name not in known:
        print(f"dcmstore: {path} has no user {options.name}", file=sys.stderr)
        return 1
    _write(path, options.config, known.without(options.name))
    print(f"removed user {options.name} from {path}; `dcmstore reload` lets a running receiver know")
    return 0


def show(options: argparse.Namespace) -> int:
    _, known = _users(options.config)
    for name in known.names:
        print(name)
    return 0


def _users(ini: Path) -> tuple[Path, Users]:
    """The file that the ini names, or else the usual one, and who is in it."""
    configuration = needs.read(ini)
    path = configuration.settings.users
    if path is None:
        path = ini.absolute().parent / FILE_NAME
        print(f"dcmstore: {ini} has no `users`; enter `users= {FILE_NAME}` there to have it used", file=sys.stderr)
    return path, users.read(path) if path.exists() else Users({})


def _ask_passcode(name: str) -> bytes:
    """From the terminal, twice; else the first line of standard input."""
    if sys.stdin is not None and sys.stdin.isatty():
        passcode = getpass.getpass(f"Passcode of {name}: ")
        if getpass.getpass("Once more: ") != passcode:
            raise ConfigurationError("passcode: the two are not alike; nothing is changed")
    else:
        passcode = sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""
    encoded = passcode.encode()
    if not 1 <= len(encoded) <= users.MAX_PASSCODE:
        raise ConfigurationError(f"passcode: {len(encoded)} bytes came; allowed is 1 to {users.MAX_PASSCODE}")
    return encoded


def _write(path: Path, ini: Path, known: Users) -> None:
    """Whoever writes it, often root, the receiver reads it as before, or as it reads the ini."""
    try:
        if path.exists():
            ownership = Ownership.of(os.fspath(path))
        else:
            like_ini = Ownership.of(os.fspath(ini))
            ownership = replace(like_ini, mode=like_ini.mode & NEW_MODE)
        files.write_whole(os.fspath(path), known.lines().encode(), ownership)
    except OSError as error:
        advice = "; use sudo, so that it stays its owner's" if error.errno == errno.EPERM else ""
        raise ConfigurationError(f"{path}: can't be written: {reason_of(error)}{advice}") from None
