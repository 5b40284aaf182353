"""seeds/ and corpus/ <-> folders: a zip a target, the same bytes for the same inputs."""

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
SEEDS, GROWN = HERE / "seeds", HERE / "corpus"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def load(target: str) -> list[bytes]:
    """The inputs that are kept for a target: first those of real senders, then those that fuzzing found."""
    inputs = []
    for path in (SEEDS / f"{target}.zip", GROWN / f"{target}.zip"):
        if path.exists():
            with zipfile.ZipFile(path) as archive:
                inputs += [archive.read(name) for name in sorted(archive.namelist())]
    return inputs


def unpack(target: str, folder: Path) -> None:
    for data in load(target):
        (folder / name_of(data)).write_bytes(data)


def keep(inputs: Iterable[bytes], path: Path) -> None:
    """Write a zip; its bytes follow from the inputs alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted((name_of(data), data) for data in set(inputs)):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
