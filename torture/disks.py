"""a folder -> a real file system there, that can lose its power: images on loop devices, kept in memory.

Needs Linux and root. `unavailable` says why a machine can't.
"""

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.programs import find_program

if sys.platform != "win32":
    import fcntl

SIZE = 512 * 1024 * 1024  # bytes of a disk; only what is written takes memory. XFS takes no less than 300 MB.

# include/uapi/linux/fs.h, ext4.h, xfs_fs.h: stop a file system where it stands, with what it has not written yet.
# It is what the kernel's own tests use for a power cut (xfstests: `src/godown`).
_FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_CLONE_NEWNS = 0x00020000


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A kind of file system, and how it is made.

    One with a journal is whole again once it is mounted. Without a journal, it is looked at as the cut left it,
    read-only and before any repair: a repair puts away what contradicts itself, and may choose what was synced.
    """

    name: str
    make: tuple[str, ...]
    has_journal: bool = True

    def unavailable(self) -> str:
        """Why this machine can't have it, or nothing."""
        if find_program(self.make[0]) is None:
            return f"{self.make[0]} is not installed"
        try:
            with contextlib.ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                memory = stack.enter_context(mounted_memory(folder, SIZE))
                stack.enter_context(Disk(self, memory / "image", folder / "disk"))
        except DiskProblem as problem:
            return str(problem)
        return ""


EXT4 = FileSystem("ext4", ("mkfs.ext4", "-q", "-F"))
EXT4_WITHOUT_JOURNAL = FileSystem(
    "ext4 without a journal", ("mkfs.ext4", "-q", "-F", "-O", "^has_journal"), has_journal=False
)
XFS = FileSystem("XFS", ("mkfs.xfs", "-q", "-f"))


class DiskProblem(Exception):
    """A mount or a tool failed; the text says which and why."""


class Disk:
    """A file system in an image file, mounted at `folder` while the context lasts."""

    def __init__(self, file_system: FileSystem, image: Path, folder: Path, size: int = SIZE) -> None:
        self.folder = folder
        self.image = image
        self.file_system = file_system
        self._size = size

    def __enter__(self) -> "Disk":
        self.folder.mkdir(exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(self._size)
        run(*self.file_system.make, str(self.image))
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        unmount_at_once(self.folder)
        self.image.unlink(missing_ok=True)

    def mount(self, *options: str) -> None:
        run("mount", "-o", ",".join(("loop", *options)), str(self.image), str(self.folder))

    def unmount(self) -> None:
        run("umount", str(self.folder))

    def cut_power(self) -> None:
        """From this instant nothing is written any more, and every write and sync fails."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        """Mount what the cut left, as a computer does that starts again."""
        if self.file_system.has_journal:
            self.unmount()
            self.mount()
            return
        copy = self.image.with_suffix(".copy")
        run("cp", "--sparse=always", str(self.image), str(copy))  # for it writes what it holds when it is unmounted
        self.unmount()
        os.replace(copy, self.image)
        self.mount("ro")


def unavailable() -> str:
    """Why no file system can be mounted here, or nothing."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount file systems"
    return EXT4.unavailable()


@contextlib.contextmanager
def mounted_memory(folder: Path, size: int, *options: str) -> Iterator[Path]:
    """A tmpfs of so many bytes at a new folder below `folder`."""
    path = Path(tempfile.mkdtemp(dir=folder, prefix="memory-"))
    run("mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "tmpfs", str(path))
    try:
        yield path
    finally:
        unmount_at_once(path)


def unmount_at_once(folder: Path) -> None:
    """Take a mount away, also while files on it are open; harmless where nothing is mounted."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def keep_mounts_private() -> None:
    """Let nobody else see this process's mounts, and let them end with it, however it ends."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise DiskProblem(f"unshare: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def run(program: str, *arguments: str, accepted: tuple[int, ...] = (0,)) -> None:
    """Run a tool. Raises DiskProblem with what it said."""
    path = find_program(program)
    if path is None:
        raise DiskProblem(f"{program} is not installed")
    done = subprocess.run([path, *arguments], check=False, capture_output=True, text=True, errors="replace")
    if done.returncode not in accepted:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise DiskProblem(f"{program} {' '.join(arguments)}: {said}")
