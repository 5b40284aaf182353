"""a job of a copy -> files under the same path below another folder, each whole or not at all."""

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dcmstore.errors import CannotUnderstand, reason_of
from dcmstore.hooks import STUDY_COMPLETE, lines
from dcmstore.jobs.gone import gone
from dcmstore.jobs.work import Facts, Job, JobFailed
from dcmstore.storage import examine, files, header, names

_STEP = 1024 * 1024  # bytes


class CopyHandler:
    """Copies files. What is there already stays: an identical file is enough, beside another one goes a number.

    `as_system` makes a path such as the system wants it (long paths of Windows).
    """

    def __init__(self, as_system: Callable[[str], str] = str) -> None:
        self._as_system = as_system
        self._is_closed = threading.Event()

    def do(self, job: Job) -> None:
        """Raises JobFailed."""
        try:
            target = lines.folder_of(job.target)
        except ValueError:
            raise JobFailed(f"{job.target!r} names no folder; correct it in the ini", is_final=True) from None
        root, suffix = str(job.facts["root"]), _suffix(job)
        if not os.path.isdir(target):  # never made here: else its disk is away, and files would lie in its place
            raise JobFailed(f"{target}: there is no such folder; make it, or see to its disk or share")
        try:
            for path in _sources(job.facts, self._as_system):
                self._copy(path, _below(self._as_system(target), path, self._as_system(root)), suffix)
        except OSError as error:
            raise JobFailed(
                f"from {root} to {target}: {reason_of(error)}; see to these disks or shares, and to the rights there"
            ) from None

    def close(self) -> None:
        """Begin nothing more, and leave what is under way: `do` then raises soon."""
        self._is_closed.set()

    def _copy(self, source: str, target: str, suffix: str) -> None:
        """Raises OSError."""
        folder, file_name = os.path.split(target)
        temporary = os.path.join(folder, f".{file_name}.{suffix}")
        with files.open_to_read(source) as original:
            _make_folders(folder)
            with contextlib.suppress(FileNotFoundError):  # a crash left it
                os.unlink(temporary)
            try:
                self._write(original, temporary)
                _place(temporary, target)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
        files.sync_folder(folder)

    def _write(self, original: BinaryIO, temporary: str) -> None:
        descriptor = files.create(temporary)
        try:
            while piece := original.read(_STEP):
                self._require_open()
                files.write_all(descriptor, [piece])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _require_open(self) -> None:
        if self._is_closed.is_set():
            raise JobFailed("the receiver stops; it is done again")


def _sources(facts: Facts, as_system: Callable[[str], str]) -> Iterator[str]:
    """The file; of a study, all of its files below its folder, where others may lie too.

    Raises OSError, and JobFailed where there is none.
    """
    is_study = facts["event"] == STUDY_COMPLETE
    place = as_system(str(facts["folder" if is_study else "path"]))
    found = False
    if not files.is_gone(place):
        for path in _of_study(place, facts["study_instance_uid"]) if is_study else (place,):
            found = True
            yield path
    if not found:
        what = "every file of the study" if is_study else "its file"
        raise gone(as_system(str(facts["root"])), what, "it was copied")


def _of_study(folder: str, study_instance_uid: str | int) -> Iterator[str]:
    for parent, below, file_names in os.walk(folder, onerror=_raise):
        below[:] = sorted(name for name in below if name not in names.OUR_FOLDERS)
        for name in sorted(file_names):
            path = os.path.join(parent, name)
            if _study_of(path) == study_instance_uid:
                yield path


def _raise(error: OSError) -> None:
    raise error


def _study_of(path: str) -> str | None:
    """None for what is no object, or is gone."""
    try:
        examined = examine.examine(path)
    except (CannotUnderstand, FileNotFoundError):
        return None
    return examined.values.get(header.STUDY_INSTANCE_UID, b"").decode("latin-1").strip(" \0")


def _below(target: str, path: str, root: str) -> str:
    """Raises JobFailed for a file that does not lie below its root: nothing is written beside the target."""
    relative = os.path.relpath(path, root)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise JobFailed(f"the file does not lie below {root}", is_final=True)
    return os.path.join(target, relative)


def _suffix(job: Job) -> str:
    """The same each time that this job is tried, so that it finds what it left, and another one for other jobs."""
    return hashlib.sha256("\n".join((job.target, job.key)).encode()).hexdigest()[:8] + ".part"


def _make_folders(folder: str) -> None:
    """Make them, and have their names survive a power cut."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folders(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    files.sync_folder(parent)


def _place(temporary: str, target: str) -> None:
    """Give it the first name that is free, unless it is there already under one of them."""
    folder, file_name = os.path.split(target)
    path, number = target, 1
    while True:
        try:
            files.give_name(temporary, path)
            return
        except FileExistsError:
            if stat.S_ISREG(os.stat(path).st_mode) and files.same_content(path, 0, temporary, 0):
                files.sync_file(path)
                return
        number += 1
        path = os.path.join(folder, names.numbered(file_name, number))
