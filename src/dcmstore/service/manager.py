"""a verb -> a plan: what a service manager is asked to do, shown first or carried out, on Windows and Linux alike."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from dcmstore.config import Configuration
from dcmstore.errors import DcmStoreError

DISPLAY_NAME = "Dicom Store Service"


class ServiceError(DcmStoreError):
    """The service manager said no, or the service did: why, and what to do, in words."""


class State(Enum):
    """What a service is doing."""

    RUNNING = "running"  # it listens, and its folders can be written
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the service, with the ini that it was installed with; `facts` are for a person to read."""

    state: State
    ini: Path | None = None  # None when it is not installed, or not by us
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One change to the machine. `text` is exactly what is done: a call, a command line, a file with its text.

    `do` returns a sentence to print, or nothing, and raises ServiceError. When `without` is given, its failure is a
    warning that goes on with these words (what the service is without now); else it ends the plan.
    """

    text: str
    do: Callable[[], str]
    without: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in their order, and what is said when all are done."""

    actions: tuple[Action, ...]
    done: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """What `install` is told beside the ini."""

    account: str = ""  # who the service runs as; empty: the manager's own choice
    firewall: bool = False


class ServiceManager(Protocol):
    """One service of one name on this machine. A method looks, and changes nothing; the plan that it returns does.

    Each raises ServiceError where nothing can be done: already or not installed, already running, no rights.
    """

    def install(self, configuration: Configuration, options: InstallOptions) -> Plan: ...

    def start(self) -> Plan: ...

    def stop(self) -> Plan: ...

    def delete(self) -> Plan:
        """Stops it first. The last words say what stays."""

    def reload(self) -> Plan: ...

    def query(self) -> Status: ...


def of_this_system() -> ServiceManager:
    if sys.platform == "win32":
        from dcmstore.service.scm import WindowsManager

        return WindowsManager()
    from dcmstore.service.systemd import SystemdManager

    return SystemdManager()
