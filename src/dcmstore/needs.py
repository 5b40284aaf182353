"""What a command needs of its ini and of the machine -> there, or missing in words that say what to do."""

import contextlib
import errno
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcmstore import config, ports, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.hosts import address_of
from dcmstore.server import MAX_UNASSOCIATED, endpoints_of
from dcmstore.settings import Settings
from dcmstore.storage.filing import Root

if sys.platform != "win32":
    import resource

PORT_ADVICE = "perhaps dcmstore is running already; else end the other program or set another `port`"
OTHER_FILES = MAX_UNASSOCIATED + 64  # beside those of associations: silent peers, log, locks, journal, libraries

EVERY_ADDRESS = ("", "0.0.0.0", "::")  # of `bind`
_NOBODYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, RFC 3849: for documents only
_UNLIMITED = sys.maxsize


def read(path: Path) -> Configuration:
    """The settings, with the warnings about their file on standard error. Raises ConfigurationError."""
    configuration = config.read(path)
    for warning in configuration.warnings:
        print(f"dcmstore: {warning}", file=sys.stderr)
    return configuration


def note_idle_index(configuration: Configuration) -> None:
    """Say on standard error where there is an index and no receiver that keeps it: what it answers may be old."""
    if configuration.settings.index or not wiring.index_path_of(configuration).exists():
        return
    advice = "set index= 1, or let `dcmstore reindex` enter what is there"
    print(f"dcmstore: index= 0: nothing that comes is entered, so this may be old; {advice}", file=sys.stderr)


# --- root folders --------------------------------------------------------------------------------


def require_roots(configuration: Configuration, *, are_written: bool = True) -> None:
    """Raises ConfigurationError unless both root folders are there and can be written, now or when there is room.

    A full disk shall not keep the other root from receiving. Without `are_written`, by somebody else than us.
    """
    for root, folder in wiring.roots_of(configuration.settings).items():
        problem = folder_problem(folder, may_be_full=True) if are_written else absence(folder)
        if problem:
            raise ConfigurationError(root_message(configuration, root, folder, problem))


def absence(folder: Path) -> str:
    """Why there is no such root folder and what to do about it, or nothing."""
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist; make it, or let `dcmstore init` make it"
    except OSError as error:
        return f"can't be looked at: {reason_of(error)}; {_advice_on_looking(error)}"
    return "" if stat.S_ISDIR(mode) else "is not a folder; name another one"


def _advice_on_looking(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "let the user that runs dcmstore enter it and the folders that it is in, or name another one"
    return "see to that disk or share, or name another folder"


def folder_problem(folder: Path, *, may_be_full: bool = False) -> str:
    """Why a root folder can't be used and what to do about it, or nothing."""
    return absence(folder) or unwritable(folder, may_be_full=may_be_full)


def unwritable(folder: Path, *, may_be_full: bool = False) -> str:
    """Why nothing can be written in a folder that is there and what to do about it, or nothing."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"dcmstore")  # a full disk still lets files be made
            file.flush()
            return ""
    except OSError as error:
        if may_be_full and error.errno in wiring.FULL:
            return ""
        return f"can't be written: {reason_of(error)}; {wiring.advice_on_writing(error)}"


def root_message(configuration: Configuration, root: Root, folder: Path, problem: str) -> str:
    source = configuration.source(wiring.ROOT_FIELDS[root])
    return f"{configuration.path}, {source}: {root.value}= {folder} {problem}"


# --- files beside the ini ------------------------------------------------------------------------


def file_problems(configuration: Configuration) -> Iterator[str]:
    """What hinders `run` from writing the files that the ini asks for beside it. None is made to find out."""
    for setting, path in (
        ("logfile= 1", wiring.log_path_of(configuration)),
        ("audit= file", wiring.audit_path_of(configuration)),
        ("dicomdir= 1", wiring.journal_path_of(configuration)),
    ):
        if path is not None and (problem := file_problem(configuration, setting, path)):
            yield problem


def file_problem(configuration: Configuration, setting: str, path: Path) -> str:
    """Why a file beside the ini can't be written that a setting, given as `key= value`, asks for, or nothing."""
    try:
        _try_to_append(path)
    except OSError as error:
        return str(wiring.unwritable(configuration, setting, path, error))
    return ""


def _try_to_append(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)))  # a pipe would make us wait
    except FileNotFoundError:
        tempfile.TemporaryFile(dir=path.parent).close()


# --- the port ------------------------------------------------------------------------------------


def port_problem(error: OSError, port: int) -> str:
    """Why nobody can listen on a port, and who does."""
    is_withheld = isinstance(error, PermissionError)  # on Windows also by who has the port for itself alone
    may_be_taken = error.errno == errno.EADDRINUSE or (is_withheld and sys.platform == "win32")
    if may_be_taken and (owner := ports.owner_of(port)):
        return f"taken by {owner}"
    return "no permission to listen on it" if is_withheld else reason_of(error)


def port_advice(error: OSError) -> str:
    """What to do where nobody can listen on a port."""
    if not isinstance(error, PermissionError):
        return PORT_ADVICE
    if sys.platform == "win32":
        return (
            "another program has it for itself alone, or Windows keeps it (`netsh int ipv4 show excludedportrange "
            "tcp`): set another `port`"
        )
    return (
        "ports below 1024 are for root, and for the service that `dcmstore service install` makes: use that, or set "
        "a `port` from 1024 on"
    )


# --- whom we send to -----------------------------------------------------------------------------


def leads_back(settings: Settings, host: str, port: int, *, looks_up: bool = False) -> bool:
    """True where this receiver itself listens there. A name that is not this machine's is known if it `looks_up`."""
    return any(
        port == endpoint.port and _is_listened_on(host, endpoint.address, looks_up=looks_up)
        for endpoint in endpoints_of(settings)
    )


def _is_listened_on(host: str, bind: str, *, looks_up: bool) -> bool:
    places = _places_of(host, looks_up=looks_up)
    if bind in EVERY_ADDRESS:
        return any(_is_here(family, place) for family, place in places)
    return host == bind or any(address_of(str(place[0])) == address_of(bind) for _, place in places)


def _places_of(host: str, *, looks_up: bool) -> list[tuple[int, tuple[Any, ...]]]:
    """The families and addresses of a host, as sockets have them; none where it is not known."""
    is_own_name = host.casefold() in ("localhost", socket.gethostname().casefold())
    flags = 0 if looks_up or is_own_name else socket.AI_NUMERICHOST
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM, flags=flags)
    except (OSError, UnicodeError):  # nobody knows the name; who sends there tells it
        return []
    return [(family, place) for family, _, _, _, place in found]


def _is_here(family: int, place: tuple[Any, ...]) -> bool:
    """True for an address of this machine: only there a socket can be bound. Nothing is sent.

    Where a system lets anybody bind to what is not there (net.ipv4.ip_nonlocal_bind), only what leads back is known.
    """
    address = address_of(str(place[0]))
    if address is not None and address.is_loopback:
        return True
    return _can_bind(family, place) and not _can_bind(family, (_NOBODYS[socket.AddressFamily(family)], *place[1:]))


def _can_bind(family: int, place: tuple[Any, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind(place)
    except OSError:
        return False
    return True


# --- open files ----------------------------------------------------------------------------------


def open_files_of(settings: Settings) -> int:
    """How many files `run` may have open at once: a socket and a temporary file an association, and its own."""
    return 2 * settings.max_associations + OTHER_FILES


def open_files_allowed() -> tuple[int, int] | None:
    """The limits on open files, soft and hard; None where the system can't be asked, as on Windows."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        _UNLIMITED if soft == resource.RLIM_INFINITY else soft,
        _UNLIMITED if hard == resource.RLIM_INFINITY else hard,
    )


def open_files_finding(settings: Settings, allowed: tuple[int, int]) -> tuple[bool, str]:
    """Whether the limits on open files, soft and hard, let `run` serve `max-associations`, and what to do if not."""
    soft, hard = allowed
    needed = open_files_of(settings)
    if soft >= needed:
        return True, f"{'any number of' if soft == _UNLIMITED else soft} open files are allowed, {needed} needed"
    if hard >= needed:
        return True, f"{soft} open files are allowed, {needed} needed; `run` raises the limit by itself"
    least = f"max-associations= {(hard - OTHER_FILES) // 2}" if hard >= OTHER_FILES + 2 else ""
    advice = f"set {least}, or raise the limit" if least else "raise the limit"
    return False, (
        f"at most {hard} open files are allowed, {needed} needed for max-associations= {settings.max_associations}; "
        f"{advice} (`ulimit -n {needed}` as root, or LimitNOFILE={needed} in a systemd unit)"
    )


def raise_open_files(settings: Settings) -> str:
    """Raise the soft limit to what is needed, as far as the hard limit allows; return what is then missing, if any."""
    allowed = open_files_allowed()
    if sys.platform == "win32" or allowed is None:
        return ""
    soft, hard = allowed
    wanted = min(open_files_of(settings), hard)
    if wanted > soft:
        _, raw_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit of its own below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, raw_hard))
        soft, _ = open_files_allowed() or allowed
    is_fine, finding = open_files_finding(settings, (soft, soft))  # nothing raises it any more
    return "" if is_fine else finding
