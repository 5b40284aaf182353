"""settings -> the text of a systemd unit: what the receiver needs is open to it, and all else is shut.

Nothing is written here, and nothing read but symbolic links. docs/linux.md says what the switches are for.
"""

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import dcmstore
from dcmstore import needs, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.hooks import lines
from dcmstore.hosting import stop_seconds
from dcmstore.server import endpoints_of
from dcmstore.service.manager import DISPLAY_NAME
from dcmstore.settings import KEYS, Settings

UNIT_NAME = "DcmStoreService.service"

WATCHDOG = 30  # seconds; the receiver is looked at three times in it, and may take five seconds to answer
RESTART_FIRST = 5  # seconds from a failure to the next start, growing …
RESTART_LAST = 60  # … up to this: a share that is still away, a port that will be free
RESTART_STEPS = 4
RESTART_FIXED = 10  # where systemd can't let it grow
RESTART_STEPS_SINCE = 254  # release of systemd
MIN_OPEN_FILES = 1024  # what any process has
MAX_OPEN_FILES = 524_288  # systemd's own limit; `run` goes as far when a reload raises max-associations
FIRST_FREE_PORT = 1024  # those below are for root, and for CAP_NET_BIND_SERVICE

# What ProtectHome and PrivateTmp hide. Folders in there that are needed are let in one by one.
_HOMES = ("/home", "/root", "/run/user")
_HIDDEN = (*_HOMES, "/tmp", "/var/tmp")

_RECORD = "\n[X-DcmStore]\nRecord="  # systemd passes over sections whose names begin so

_HEAD = """\
# Written by `dcmstore service install`. After a change of folders, port, limits or of dcmstore's own place, run it
# again. Changes of your own belong into a file beside it: `systemctl edit DcmStoreService`.

"""

_Lines: TypeAlias = list[tuple[str, object]]

_SANDBOX: _Lines = [
    ("LimitCORE", 0),  # a core dump would hold data of patients
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("DevicePolicy", "closed"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("ProcSubset", "pid"),
    ("RemoveIPC", "yes"),
    ("KeyringMode", "private"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),  # senders, and systemd's own socket
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("SystemCallErrorNumber", "EPERM"),  # an error is handled; the signal that is the default ends all associations
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How dcmstore is started on this machine: the words of its command line, and the folders it is read from."""

    command: tuple[str, ...]
    folders: tuple[Path, ...]
    kill: str

    @classmethod
    def present(cls) -> "Program":
        """The one that runs now."""
        return cls(
            command=(sys.executable, "-P", "-m", "dcmstore"),  # -P: nothing is imported from the present folder
            folders=(Path(sys.prefix), Path(sys.base_prefix), Path(dcmstore.__file__).parent.parent),
            kill=shutil.which("kill", path="/usr/bin:/bin") or "/bin/kill",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What `install` did: a unit carries it, so that `delete` undoes just that and nothing else has to be kept."""

    ini: str
    user: str
    made_user: bool
    were: tuple[tuple[str, int, int], ...] = ()  # paths that were opened to the user: number of their group, and mode


def text(configuration: Configuration, program: Program, systemd: int, record: Record) -> str:
    """`systemd` is its release. Raises ConfigurationError when a path can't stand in a unit."""
    sections: dict[str, _Lines] = {
        "Unit": _unit(configuration),
        "Service": [
            *_process(configuration, program, record.user),
            *_restart(systemd),
            *_limits(configuration.settings),
            *_capabilities(configuration.settings),
            *_places(configuration, program),
            *_SANDBOX,
        ],
        "Install": [("WantedBy", "multi-user.target")],
    }
    blocks = ["\n".join([f"[{name}]", *(f"{key}={value}" for key, value in sections[name])]) for name in sections]
    return _HEAD + "\n\n".join(blocks) + f"\n{_RECORD}{json.dumps(asdict(record), ensure_ascii=False)}\n"


def record_of(unit_text: str) -> Record | None:
    """The record in a unit; None when it was not written by `text`."""
    _, has_record, line = unit_text.partition(_RECORD)
    if not has_record:
        return None
    facts = json.loads(line)
    return Record(**{**facts, "were": tuple(map(tuple, facts["were"]))})


# --- sections ------------------------------------------------------------------------------------


def _unit(configuration: Configuration) -> _Lines:
    places = [*wiring.roots_of(configuration.settings).values(), folder_of(configuration)]
    return [
        ("Description", f"{DISPLAY_NAME} (DICOM Storage SCP)"),
        ("Wants", "network-online.target"),
        ("After", "network-online.target"),
        # A network share is mounted first: what came before would land below the mount point, out of sight.
        ("RequiresMountsFor", " ".join(quoted(str(place)) for place in _and_targets(places))),
        ("StartLimitIntervalSec", 0),  # never give up: nobody is there to start it again
    ]


def _process(configuration: Configuration, program: Program, user: str) -> _Lines:
    words = [*program.command, "run", "--config", str(configuration.path.absolute())]
    return [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", " ".join([quoted(words[0]), *(quoted(word).replace("$", "$$") for word in words[1:])])),
        ("ExecReload", f"{quoted(program.kill)} -HUP $MAINPID"),
        ("User", user),
        ("SyslogIdentifier", "dcmstore"),
    ]


def _restart(systemd: int) -> _Lines:
    growing: _Lines = [
        ("RestartSec", RESTART_FIRST),
        ("RestartSteps", RESTART_STEPS),
        ("RestartMaxDelaySec", RESTART_LAST),
    ]
    return [
        ("Restart", "on-failure"),
        *(growing if systemd >= RESTART_STEPS_SINCE else [("RestartSec", RESTART_FIXED)]),
    ]


def _limits(settings: Settings) -> _Lines:
    return [
        ("WatchdogSec", WATCHDOG),
        ("KillMode", "mixed"),  # the receiver lets its hooks come to an end, and then ends them
        ("TimeoutStopSec", f"{stop_seconds(settings.stop_timeout):g}"),
        ("LimitNOFILE", f"{max(needs.open_files_of(settings), MIN_OPEN_FILES)}:{MAX_OPEN_FILES}"),
        ("UMask", f"{settings.permissions.umask:04o}"),
    ]


def _capabilities(settings: Settings) -> _Lines:
    if any(0 < endpoint.port < FIRST_FREE_PORT for endpoint in endpoints_of(settings)):
        return [("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"), ("AmbientCapabilities", "CAP_NET_BIND_SERVICE")]
    return [("CapabilityBoundingSet", "")]


def _places(configuration: Configuration, program: Program) -> _Lines:
    """Which folders can be seen and written. A missing one does not hinder the start: the receiver says it better."""
    writable = _outermost(_and_targets(written_folders(configuration)))
    readable = [
        folder
        for folder in _outermost(_and_targets([*read_paths(configuration), *program.folders]))
        if is_hidden(folder) and folder not in writable
    ]
    hidden = [folder for folder in writable if is_hidden(folder)]
    has_homes = any(_is_below(folder, _HOMES) for folder in (*hidden, *readable))
    return [
        ("ProtectHome", "tmpfs" if has_homes else "yes"),
        *_if_any("BindReadOnlyPaths", readable),
        *_if_any("BindPaths", hidden),
        *_if_any("ReadWritePaths", [folder for folder in writable if folder not in hidden]),
    ]


# --- folders -------------------------------------------------------------------------------------


def folder_of(configuration: Configuration) -> Path:
    """The folder of the ini, where the log, the audit trail, the journal of the DICOMDIRs, index and queue are too."""
    return configuration.path.absolute().parent


def writes_beside_ini(settings: Settings) -> bool:
    return settings.logfile or settings.dicomdir or settings.audit == "file" or settings.index


def copy_folders(settings: Settings) -> list[Path]:
    """Where hooks copy to."""
    return list(map(Path, lines.copy_folders((*settings.on_stored, *settings.on_study_complete))))


def written_folders(configuration: Configuration) -> list[Path]:
    settings = configuration.settings
    beside_ini = [folder_of(configuration)] if writes_beside_ini(settings) else []
    return [*wiring.roots_of(settings).values(), *beside_ini, *copy_folders(settings)]


def is_hidden(folder: Path) -> bool:
    """Whether the service sees the folder only as far as its unit lets it in; the folders above do not matter then."""
    return _is_below(folder, _HIDDEN)


def read_paths(configuration: Configuration) -> list[Path]:
    """The ini's folder, and the files that the ini names."""
    folder, settings = folder_of(configuration), configuration.settings
    named = [getattr(settings, name) for name in KEYS if name not in wiring.ROOT_FIELDS.values()]
    return [folder, *(folder / value for value in named if isinstance(value, Path))]


def _and_targets(folders: Iterable[Path]) -> list[Path]:
    """Each folder, and where its symbolic links lead, once: either may be what is mounted or hidden."""
    return list(dict.fromkeys(place for folder in folders for place in (folder, folder.resolve())))


def _outermost(folders: list[Path]) -> list[Path]:
    return [folder for folder in folders if not any(other in folder.parents for other in folders)]


def _is_below(folder: Path, trees: Iterable[str]) -> bool:
    return any(folder.is_relative_to(tree) for tree in trees)


# --- words of a unit file ------------------------------------------------------------------------


def _if_any(key: str, folders: list[Path]) -> _Lines:
    return [(key, " ".join(f"-{quoted(str(folder))}" for folder in folders))] if folders else []


def quoted(word: str) -> str:
    """One word as a unit file has it (systemd.syntax(7), and systemd.unit(5) for %). Raises ConfigurationError."""
    if not word.isprintable():  # nor is a byte that is not UTF-8, which Python holds as a lone surrogate
        raise ConfigurationError(f"{word!r} can't stand in a systemd unit: allowed is a path of printable characters")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    is_plain = escaped == word and word.isascii() and not any(sign in word for sign in " ';:#")
    return word if is_plain else f'"{escaped}"'
