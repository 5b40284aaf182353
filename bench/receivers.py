"""folder + port -> command line: who is compared, and what each is started with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from dcmstore import __version__
from tools.programs import find_program

BEST = "dcmtk-best"  # the one that the others are compared with
TCP_NODELAY = {"TCP_NODELAY": "1"}  # DCMTK then leaves Nagle's algorithm off
ROOT = Path(__file__).parent.parent
OF_THIS_CHECKOUT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
NOT_STORED = ""
# With Nagle's algorithm on at either end, an object waits 44 or 88 ms for a delayed acknowledgement, and the 2000
# small ones take up to three minutes. Objects a second are compared, and 200 objects tell them as well.
NAGLE_OBJECTS = 200

ORTHANC = find_program("Orthanc")
STORESCP = find_program("storescp")


@dataclass(frozen=True, slots=True)
class Receiver:
    """A program that stores what it is sent.

    `command` writes what the program needs into an empty folder and returns the command line; `stored` is the
    pattern of finished objects below that folder, nothing where none are kept. Where `is_exact`, a file is called
    `<SOP Instance UID>.dcm` and holds the data set as it was sent. `max_objects` bounds a set where it takes minutes.
    """

    name: str
    about: str
    is_installed: bool
    command: Callable[[Path, int], list[str]]
    stored: str
    environment: Mapping[str, str] = field(default_factory=dict)
    is_exact: bool = False
    max_objects: int | None = None
    warm_up: float = 0.0  # seconds that it works behind its port when it listens already; they are of no run


def dcmstore(durable: int, **keys: int) -> Callable[[Path, int], list[str]]:
    """The command of a receiver of ours with these keys in its ini."""

    def command(folder: Path, port: int) -> list[str]:
        for name in ("images", "rdsr"):
            (folder / name).mkdir()
        ini = folder / "DcmStore.ini"
        lines = {"port": port, "bind": "127.0.0.1", "IMG-DIR": "images", "RDSR-DIR": "rdsr", "durable": durable, **keys}
        ini.write_text("".join(f"{key}= {value}\n" for key, value in lines.items()))
        return [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]

    return command


def _storescp(*switches: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, port: [STORESCP or "", *switches, "-od", str(_new(folder, "stored")), str(port)]


def _pynetdicom(folder: Path, port: int) -> list[str]:
    stored = _new(folder, "stored")
    return [sys.executable, "-m", "pynetdicom", "storescp", "-ba", "127.0.0.1", "-od", str(stored), str(port)]


def _orthanc(folder: Path, port: int) -> list[str]:
    settings = {
        "Name": "bench",
        "StorageDirectory": str(_new(folder, "stored")),
        "IndexDirectory": str(_new(folder, "index")),
        "TemporaryDirectory": str(_new(folder, "temporary")),
        "StorageCompression": False,
        "OverwriteInstances": True,
        "HttpServerEnabled": False,
        "DicomServerEnabled": True,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [ORTHANC or "", str(folder / "orthanc.json")]


def _bare(*switches: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, port: [
        sys.executable, "-m", "bench.bare", str(port), str(_new(folder, "stored")), *switches
    ]  # fmt: skip


def _sink(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "bench.bare", str(port)]


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


_HAS_PYNETDICOM = util.find_spec("pynetdicom") is not None
_BEST_SWITCHES = ("-pdu", "131072", "-B", "--fork")

WORKERS = max(os.cpu_count() or 1, 2)

# fmt: off
RECEIVERS = (
    Receiver("dcmstore", "dcmstore, durable=1 (as it comes)", True, dcmstore(1), "*/**/*.dcm",
             OF_THIS_CHECKOUT, is_exact=True),
    Receiver("dcmstore-fast", "dcmstore, durable=0", True, dcmstore(0), "*/**/*.dcm", OF_THIS_CHECKOUT, is_exact=True),
    Receiver("dcmstore-workers", f"dcmstore, durable=0, workers={WORKERS}", True, dcmstore(0, workers=WORKERS),
             "*/**/*.dcm", OF_THIS_CHECKOUT, is_exact=True),
    Receiver("dcmstore-index", "dcmstore, durable=0, index=1", True, dcmstore(0, index=1), "*/**/*.dcm",
             OF_THIS_CHECKOUT, is_exact=True, warm_up=4.0),
    Receiver("dcmtk", "DCMTK storescp as installed", STORESCP is not None, _storescp(), "stored/*",
             max_objects=NAGLE_OBJECTS),
    Receiver(BEST, f"DCMTK TCP_NODELAY=1 storescp {' '.join(_BEST_SWITCHES)}", STORESCP is not None,
             _storescp(*_BEST_SWITCHES), "stored/*", TCP_NODELAY),
    Receiver("pynetdicom", "pynetdicom storescp", _HAS_PYNETDICOM, _pynetdicom, "stored/*"),
    Receiver("orthanc", "Orthanc, SyncStorageArea=true (as it comes)", ORTHANC is not None, _orthanc, "stored/*/*/*",
             max_objects=NAGLE_OBJECTS),
    Receiver("bare", "bare loop: receive, write, rename", True, _bare(), "stored/*.dcm", OF_THIS_CHECKOUT),
    Receiver("bare-sync", "bare loop: receive, write, sync, rename", True, _bare("sync"), "stored/*.dcm",
             OF_THIS_CHECKOUT),
    Receiver("bare-durable", "bare loop: receive, write, sync, rename, sync the folder", True, _bare("durable"),
             "stored/*.dcm", OF_THIS_CHECKOUT),
    Receiver("sink", "bare sink: receive, store nothing", True, _sink, NOT_STORED, OF_THIS_CHECKOUT),
)
# fmt: on


def versions() -> dict[str, str]:
    """Of every program that takes part, as it names itself."""
    return {
        "dcmstore": f"{__version__}, {_commit()}",
        "Python": sys.version.split(" (")[0],
        "DCMTK": _first_line([STORESCP, "--version"]) if STORESCP else "not installed",
        "pynetdicom": metadata.version("pynetdicom") if _HAS_PYNETDICOM else "not installed",
        "Orthanc": _first_line([ORTHANC, "--version"]) if ORTHANC else "not installed",
    }


def _commit() -> str:
    """Of what is measured: the pages that figures are written into may be under way."""
    if not shutil.which("git"):
        return "commit unknown"
    git = ["git", "-C", str(ROOT)]
    is_changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "bench"], check=False).returncode
    return f"commit {_first_line([*git, 'describe', '--always'])}{'-dirty' if is_changed else ''}"


def _first_line(command: list[str]) -> str:
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return next(iter(shown.stdout.splitlines()), "unknown").strip("$ ").rpartition("/")[2]
