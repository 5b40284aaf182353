"""Files of images with all that the index looks for, and an index that a test turns by hand."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.index.database import Database
from dcmstore.index.entries import Root
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from tests.support import CT, element

EXPLICIT = "1.2.840.10008.1.2.1"


def image(
    uid: str = "1.2.3.4",
    *,
    patient_id: bytes = b"PAT1",
    name: bytes = b"Doe^Jane",
    study: str = "1.9.1",
    series: str = "1.9.1.3",
    study_date: bytes = b"20261125",
    modality: bytes = b"CT",
    description: bytes = b"Thorax",
    character_set: bytes = b"",
    pixels: bytes = b"1234",
) -> bytes:
    """A data set in Explicit VR Little Endian."""
    return b"".join(
        (
            element(0x0008, 0x0005, "CS", character_set) if character_set else b"",
            element(0x0008, 0x0016, "UI", CT.encode()),
            element(0x0008, 0x0018, "UI", uid.encode()),
            element(0x0008, 0x0020, "DA", study_date),
            element(0x0008, 0x0050, "SH", b"ACC9"),
            element(0x0008, 0x0060, "CS", modality),
            element(0x0008, 0x1030, "LO", description),
            element(0x0008, 0x103E, "LO", b"lung"),
            element(0x0010, 0x0010, "PN", name),
            element(0x0010, 0x0020, "LO", patient_id),
            element(0x0010, 0x0030, "DA", b"19700101"),
            element(0x0020, 0x000D, "UI", study.encode()),
            element(0x0020, 0x000E, "UI", series.encode()),
            element(0x0020, 0x0010, "SH", b"7"),
            element(0x0020, 0x0011, "IS", b"3"),
            element(0x0020, 0x0013, "IS", b"12"),
            element(0x7FE0, 0x0010, "OW", pixels),
        )
    )


def write(root: Root, path: str, encoded: bytes, *, uid: str = "1.2.3.4", calling: str = "CT1") -> Path:
    """A file with this data set below a root."""
    file = Path(root.path_of(path))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(part10.encode(FileMeta(CT, uid, EXPLICIT, calling)) + encoded)
    return file


def rows(path: Path, statement: str = "SELECT path FROM instances ORDER BY path") -> list[tuple[object, ...]]:
    """What the index of a receiver that is at work, or not, has to say."""
    database = Database(str(path), may_write=False)
    try:
        with database.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]
    finally:
        database.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has the index open for writing."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def ignored(*_: object) -> None:
    """Whoever is told of it."""


def refuse(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """The system lets nobody read a folder, as it does with one of somebody else."""

    def scan(path: str) -> object:
        if path == folder:
            raise PermissionError(13, "Permission denied", path)
        return as_it_is(path)

    as_it_is = os.scandir
    monkeypatch.setattr(os, "scandir", scan)
