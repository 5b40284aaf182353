"""a service to be -> the actions that make it, and those that undo all of them."""

import ctypes
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dcmstore.hosting import stop_seconds
from dcmstore.service import SERVICE_NAME, windows_rights, winsvc
from dcmstore.service.advapi import Setup
from dcmstore.service.manager import Action, ServiceError
from dcmstore.service.windows_machine import HOST_MODULE, RECORD_KEY, Machine, Record, shown
from dcmstore.service.windows_rights import RULE_NAME, Command, Grant
from dcmstore.service.windows_words import in_words
from dcmstore.settings import Settings

DESCRIPTION = "DICOM Storage SCP: files the images and radiation dose reports that are sent to this machine."
DEPENDENCIES = ("Tcpip",)
RESTARTS = (5, 10, 60)  # seconds from a failure to the next start; the last one is for all that follow
RESET = 86_400  # seconds without a failure, after which the next one is the first again
SHUTDOWN_LEAST = 180  # seconds; what Windows gave everybody until 2017

# The process of our service, by its module or its file, and the ini
_OURS = re.compile(rf'(?:-m {re.escape(HOST_MODULE)}|windows_host\.py") "([^"]+)"$')
_ACCOUNT_OF_SERVICE = f"NT SERVICE\\{SERVICE_NAME}"  # as Windows' windows show its SID


# --- what is there already -----------------------------------------------------------------------


def ini_of(setup: Setup) -> Path | None:
    """What our service was installed with; None for somebody else's of that name, such as the original's."""
    match = _OURS.search(setup.command_line)
    return Path(match[1]) if match else None


def foreign(setup: Setup) -> str:
    return (
        f"{SERVICE_NAME} is the service of another program: {setup.command_line}\n"
        f"Delete it with the script that came with it, or with `sc delete {SERVICE_NAME}`"
    )


def require_same(before: Setup, wanted: Setup, *, with_account: bool) -> None:
    if ini_of(before) is None:
        raise ServiceError(foreign(before))
    differences = []
    if os.path.normcase(before.command_line) != os.path.normcase(wanted.command_line):
        differences += [f"    installed: {before.command_line}", f"    wanted:    {wanted.command_line}"]
    if with_account and before.account.casefold() != wanted.account.casefold():
        differences += [f"    installed: runs as {before.account}", f"    wanted:    runs as {wanted.account}"]
    if differences:
        lines = ["already installed, in another way:", *differences, "`dcmstore service delete` first, then install"]
        raise ServiceError("\n".join(lines))


# --- the service itself --------------------------------------------------------------------------


def action(machine: Machine, text: str, do: Callable[[], None], without: str = "") -> Action:
    """Only an administrator gets further than to look, so that nothing is done by halves."""

    def as_administrator() -> str:
        with in_words(machine.words_of):
            with machine.advapi.manager(winsvc.SC_MANAGER_CREATE_SERVICE):
                do()
            return ""

    return Action(text, as_administrator, without)


def creation(machine: Machine, setup: Setup) -> list[Action]:
    """The service itself; `renewal` does what depends on the ini."""

    def create() -> None:
        password = machine.ask_password(setup.account) if windows_rights.needs_password(setup.account) else None
        machine.advapi.create(SERVICE_NAME, setup, password, DEPENDENCIES)

    text = (
        f"CreateServiceW {SERVICE_NAME}\n"
        f"    display name  {setup.display_name}\n"
        f"    command line  {setup.command_line}\n"
        f"    account       {setup.account}\n"
        f"    start         with the machine, after {', '.join(DEPENDENCIES)}"
    )
    changes = (_change(machine, *change) for change in _changes())
    return [action(machine, text, create), *changes]


def _changes() -> Iterator[tuple[int, ctypes.Structure, str, str]]:
    """What is changed, to what, both in words, and what is missing when that fails."""
    restarts = (winsvc.SC_ACTION * len(RESTARTS))()
    for restart, seconds in zip(restarts, RESTARTS, strict=True):
        restart.Type, restart.Delay = winsvc.SC_ACTION_RESTART, seconds * 1000
    yield (
        winsvc.SERVICE_CONFIG_DESCRIPTION,
        winsvc.SERVICE_DESCRIPTIONW(DESCRIPTION),
        f"description: {DESCRIPTION}",
        "the service has no description",
    )
    yield (
        winsvc.SERVICE_CONFIG_FAILURE_ACTIONS,
        winsvc.SERVICE_FAILURE_ACTIONSW(RESET, None, None, len(RESTARTS), restarts),
        f"failure actions: restart after {', '.join(map(str, RESTARTS))} seconds, reset after {RESET} seconds",
        "Windows does not start it again after a failure",
    )
    yield (
        winsvc.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG,
        winsvc.SERVICE_FAILURE_ACTIONS_FLAG(True),
        "failure actions flag: 1, also when it ends by itself with an error",
        "Windows starts it again after a crash only, not when it ends with an error",
    )
    yield (
        winsvc.SERVICE_CONFIG_SERVICE_SID_INFO,
        winsvc.SERVICE_SID_INFO(winsvc.SERVICE_SID_TYPE_UNRESTRICTED),
        f"service SID: unrestricted, {windows_rights.service_sid()}",
        "rights given to the service do not reach it: its account needs them",
    )


def _change(machine: Machine, what: int, value: ctypes.Structure, text: str, without: str) -> Action:
    def change() -> None:
        machine.advapi.change(SERVICE_NAME, what, value)

    return action(machine, f"ChangeServiceConfig2W {SERVICE_NAME}, {text}", change, without)


# --- beside the service --------------------------------------------------------------------------


def shutdown_seconds(settings: Settings) -> int:
    """What a shutdown of Windows has to leave the service."""
    return max(math.ceil(stop_seconds(settings.stop_timeout)), SHUTDOWN_LEAST)


def renewal(machine: Machine, before: Record, wanted: Record) -> list[Action]:
    """What depends on the ini, as it is wanted; written down first, so that a crash can be undone.

    Where `wanted` has all of `before`, nothing is taken, not even for a moment: a service that runs needs it.
    """
    if wanted == before:
        return []
    actions = [_recording(machine, wanted)]
    if wanted.shutdown != before.shutdown:
        actions.append(_leaving_time(machine, wanted.shutdown))
    # A path is taken with all its rights.
    taken = {path for path, _ in set(before.grants) - set(wanted.grants)}
    actions += _takings(machine, [grant for grant in before.grants if grant[0] in taken])
    actions += [_giving(machine, *grant) for grant in wanted.grants if grant[0] in taken or grant not in before.grants]
    return actions + _reopening(machine, before.ports, wanted.ports)


def _reopening(machine: Machine, before: str, wanted: str) -> list[Action]:
    """Rules add up, and go all at once by their name."""
    if before and not set(before.split(",")) <= set(wanted.split(",")):
        return [_closing(machine), *([_opening(machine, wanted)] if wanted else [])]
    added = ",".join(port for port in wanted.split(",") if port not in before.split(","))
    return [_opening(machine, added)] if added else []


def kept(has: Record, wanted: Record) -> Iterator[str]:
    """What a service that runs has beyond what its ini needs now, and how that goes."""
    paths = dict.fromkeys(path for path, rights in has.grants if (path, rights) not in wanted.grants)
    ports = [port for port in has.ports.split(",") if port and port not in wanted.ports.split(",")]
    names = [*(f"its rights on {path}" for path in paths), *(f"port {port} in the firewall" for port in ports)]
    if names:
        yield (
            f"as long as it runs it keeps {', '.join(names)}, which it may still need; "
            "`dcmstore service stop`, `install` and `start` take that back"
        )


def removal(machine: Machine, record: Record) -> list[Action]:
    """The service, and before it all that was done beside it."""

    def delete() -> None:
        machine.advapi.delete(SERVICE_NAME)

    return [
        *([_closing(machine)] if record.ports else []),
        *_takings(machine, record.grants),
        *([_forgetting(machine)] if record != Record() else []),
        action(machine, f"DeleteService {SERVICE_NAME}", delete),
    ]


def _recording(machine: Machine, record: Record) -> Action:
    def write() -> None:
        machine.records.write(record)

    lines = [f"    {path} {rights}" for path, rights in record.grants]
    lines += [f"    firewall, port {record.ports}"] if record.ports else []
    lines += [f"    preshutdown timeout, {record.shutdown} seconds"]
    text = "\n".join([f"write down in HKLM\\{RECORD_KEY} what `delete` has to undo", *lines])
    return action(machine, text, write, "`delete` will not take back what follows")


def _forgetting(machine: Machine) -> Action:
    def remove() -> None:
        machine.records.remove()

    return action(machine, f"remove HKLM\\{RECORD_KEY}", remove, "it goes with the service")


def _leaving_time(machine: Machine, seconds: int) -> Action:
    return _change(
        machine,
        winsvc.SERVICE_CONFIG_PRESHUTDOWN_INFO,
        winsvc.SERVICE_PRESHUTDOWN_INFO(seconds * 1000),
        f"preshutdown timeout: {seconds} seconds",
        "when Windows is shut down, objects under way get less time than stop-timeout",
    )


def _giving(machine: Machine, path: str, rights: str) -> Action:
    without = f"give {_ACCOUNT_OF_SERVICE} its rights on {path} yourself (Properties, Security)"
    return _program(machine, Grant(path, rights).give(), without)


def _takings(machine: Machine, grants: Iterable[tuple[str, str]]) -> list[Action]:
    """What is not there any more needs nothing."""
    paths = dict.fromkeys(path for path, _ in grants if Path(path).exists())
    return [
        _program(
            machine,
            windows_rights.take_back(path),
            f"remove {_ACCOUNT_OF_SERVICE} from {path} yourself (Properties, Security)",
        )
        for path in paths
    ]


def _opening(machine: Machine, ports: str) -> Action:
    command = windows_rights.open_firewall(ports, machine.program.python)
    return _program(machine, command, f"let TCP port {ports} in yourself, in Windows' firewall")


def _closing(machine: Machine) -> Action:
    without = f"remove the rule `{RULE_NAME}` yourself, in Windows' firewall"
    return _program(machine, windows_rights.close_firewall(), without)


def _program(machine: Machine, command: Command, without: str) -> Action:
    return action(machine, shown(command), lambda: machine.run(command), without)
