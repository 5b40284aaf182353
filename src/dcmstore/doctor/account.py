"""the installed service -> whether it runs, by this ini, and whether its user may do what it has to."""

import sys
from collections.abc import Iterator
from pathlib import Path

from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.service import manager
from dcmstore.service.manager import ServiceError, ServiceManager, State

_WORKING = (State.RUNNING, State.STARTING)


def findings(configuration: Configuration) -> Iterator[Finding]:
    if not _has_services():
        return
    service = manager.of_this_system()
    try:
        status = service.query()
    except ServiceError as error:
        yield note(f"the service can't be looked at: {error}")
        return
    if status.state is State.NOT_INSTALLED:
        yield note("no service is installed: nothing is received after the next start", "`dcmstore service install`")
        return
    if status.ini is not None and not _is_same(status.ini, configuration.path):
        yield note(f"the service was installed for {status.ini}, and not for this ini", "give `--config` that one")
        return
    text = f"service: {'; '.join((status.state.value, *status.facts))}"
    yield ok(text) if status.state in _WORKING else fail(text, "`dcmstore service start`")
    yield from _outdated(service)
    yield from user_findings(configuration)


def _outdated(service: ServiceManager) -> Iterator[Finding]:
    try:
        found = service.outdated()
    except (ServiceError, ConfigurationError):
        return
    yield from map(fail, found)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


if sys.platform == "win32":

    def _has_services() -> bool:
        return True

    def user_findings(configuration: Configuration) -> Iterator[Finding]:
        """windows.py looks at accounts there."""
        yield from ()
else:
    import os
    import pwd

    from dcmstore.service import systemd, unit
    from dcmstore.service.rights import PASS, READ, WRITE, Account

    _WORDS = {READ: "read", WRITE | PASS: "write"}

    def _has_services() -> bool:
        return systemd.BOOTED.is_dir()

    def user_findings(configuration: Configuration, units: Path = systemd.UNITS) -> Iterator[Finding]:
        """What the user of the installed unit may not do: asked as that user by root, else told by owners and modes."""
        try:
            record = unit.record_of((units / unit.UNIT_NAME).read_text(encoding="utf-8"))
            entry = pwd.getpwnam(record.user) if record else None
        except OSError:
            return
        except KeyError:
            yield fail("the user of the service is not on this machine", "`dcmstore service install` makes it")
            return
        if entry is None or entry.pw_uid == os.geteuid():  # what that user may do has been seen
            return
        wanted = dict.fromkeys([configuration.path, *unit.read_paths(configuration)], READ)
        user = Account.named(entry.pw_name)
        wanted |= dict.fromkeys(unit.written_folders(configuration), WRITE | PASS)
        try:
            may_not = [(path, bits) for path, bits in wanted.items() if path.exists() and not user.can(bits, path)]
        except OSError as error:
            text = f"what the service's user {entry.pw_name} may do can't be seen: {error.filename}: {reason_of(error)}"
            yield note(text, "`sudo dcmstore doctor` sees it")
            return
        for path, bits in may_not:
            advice = "`dcmstore service install` gives it that right, or says which command does"
            yield fail(f"the service's user {entry.pw_name} can't {_WORDS[bits]} {path}", advice)
        if not may_not:
            yield ok(f"the service's user {entry.pw_name} may read the ini and write the folders")
