"""an ini and the machine -> findings: what usually goes wrong is looked for, and nothing of it changed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dcmstore import needs, profile, wiring
from dcmstore.config import Configuration
from dcmstore.doctor import account, clock, disk, history, needed, port, trial, windows
from dcmstore.doctor.findings import Finding, fail
from dcmstore.doctor.port import Answerer, Port
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.profile import Profile
from dcmstore.settings import Settings
from dcmstore.storage.filing import Root


@dataclass(frozen=True, slots=True)
class Case:
    """What is examined: an ini, the folders of it that are there, and who has its ports."""

    configuration: Configuration
    profile: Profile | None
    roots: Mapping[Root, Path]
    ports: list[Port]

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    @property
    def is_running(self) -> bool:
        return any(found.answerer is Answerer.OURS for found in self.ports)


def _ports(case: Case) -> Iterator[Finding]:
    for found in case.ports:
        yield from found.findings


# Theme -> its check, in the order in which a person should mend things.
CHECKS: dict[str, Callable[[Case], Iterator[Finding]]] = {
    "what `run` needs": lambda case: needed.findings(case.configuration, case.profile),
    "the port": _ports,
    "the service": lambda case: account.findings(case.configuration),
    "Windows": lambda case: windows.findings(case.settings),
    "the clock": lambda case: clock.findings(case.roots),
    "the disk": lambda case: disk.findings(case.settings, case.roots),
    "the log": lambda case: history.findings(case.configuration, is_running=case.is_running),
    "the test object": lambda case: trial.findings(case.settings, case.profile, case.ports),
}


def examine(configuration: Configuration) -> Iterator[Finding]:
    """One finding after the other, as they are made. Raises ConfigurationError for a profile that can't be used."""
    roots = {root: path for root, path in wiring.roots_of(configuration.settings).items() if not needs.absence(path)}
    case = Case(configuration, profile.in_force(configuration), roots, port.look(configuration))
    for theme, check in CHECKS.items():
        try:
            yield from check(case)
        except OSError as error:  # a disk or a share that fails; the other themes are looked at all the same
            where = f"{error.filename}: " if error.filename else ""
            yield fail(f"{theme} can't be looked at: {where}{reason_of(error)}", "see to that first")
        except ConfigurationError as error:
            yield fail(f"{theme} can't be looked at: {error}", "see to that first")
