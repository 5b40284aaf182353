"""fragments -> stored: an instance becomes visible whole or not at all.

The order is the promise: temporary file, append, sync, rename, sync of the folder, and only then the return
that lets success be answered. What already has its final name is never written to.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dcmstore.errors import CannotUnderstand, DataSetMismatch, DuplicateRefused, OutOfResources, StorageError
from dcmstore.storage import files, filing, header, part10
from dcmstore.storage.claims import Claims
from dcmstore.storage.filing import Destination, FilingPolicy, Root
from dcmstore.storage.folders import FolderTree
from dcmstore.storage.header import HeaderReader
from dcmstore.storage.incoming import IncomingFolder
from dcmstore.storage.owners import Owners
from dcmstore.storage.part10 import FileMeta
from dcmstore.storage.space import Allowance, FreeSpace, SizeLimits

NO_LIMITS = SizeLimits()
WRITE_BACK = 8 * 1024 * 1024  # bytes that gather before the disk gets to work


class Duplicates(Enum):
    """What to do with a different data set under a SOP Instance UID that is already kept."""

    BOTH = "both"
    REPLACE = "replace"
    KEEP = "keep"


class Outcome(Enum):
    """How an instance came to be kept."""

    STORED = "stored"
    IDENTICAL = "identical"  # it was there already, byte for byte
    NUMBERED = "numbered"  # another one has the UID; this one got a number
    REPLACED = "replaced"


class _Holder(Enum):
    """Who has a name that we want."""

    THIS_DATA_SET = "the same data set, in the same transfer syntax, whoever sent it"
    THIS_INSTANCE = "another data set with the same SOP Instance UID"
    ANOTHER = "another instance, or no DICOM file that we may read: it is left alone"
    NOBODY = "the name was freed since we asked for it"


@dataclass(frozen=True, slots=True)
class Instance:
    """What the command and the presentation context say of an instance before its data set comes."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance that is safe: where it is below its root, and how many bytes its data set has."""

    root: Root
    folders: tuple[str, ...]
    file_name: str
    size: int
    outcome: Outcome


class Subject(NamedTuple):
    """What an instance is, by its command and by what was read of its header: raw values by tag."""

    instance: Instance
    values: Mapping[int, bytes]


class Quarantined(CannotUnderstand):
    """The data set can't be read far enough to file it; its bytes are kept at `stored`."""

    def __init__(self, comment: str, stored: Stored) -> None:
        super().__init__(comment)
        self.stored = stored


class Store:
    """Two root folders and the rules for them. One for all associations; `open` before use, `close` at the end."""

    def __init__(
        self,
        roots: Mapping[Root, str],
        policy: FilingPolicy,
        *,
        durable: bool = True,
        duplicates: Duplicates = Duplicates.BOTH,
        limits: SizeLimits = NO_LIMITS,
    ) -> None:
        self.roots = dict(roots)
        self.policy = policy
        self.durable = durable
        self.duplicates = duplicates
        self.incoming = {root: IncomingFolder(path) for root, path in self.roots.items()}
        self.free = {root: FreeSpace(root.value, path, limits.min_free) for root, path in self.roots.items()}
        self.max_object = limits.max_object
        owners = Owners()
        self.trees = {
            root: FolderTree(path, durable=durable, owners=owners, claims=Claims(path, self.incoming[root]))
            for root, path in self.roots.items()
        }

    def open(self) -> int:
        """Get ready; return how many unfinished objects of a crashed run were removed. Raises OSError."""
        removed = sum(folder.open() for folder in self.incoming.values())
        for root, tree in self.trees.items():
            tree.open(self.incoming[root].path)
        return removed

    def close(self) -> None:
        for tree in self.trees.values():
            tree.close()
        for folder in self.incoming.values():
            folder.close()

    def begin(self, instance: Instance) -> "IncomingInstance":
        """Expect an instance's data set; nothing is written before its first byte."""
        return IncomingInstance(self, instance)


class IncomingInstance:
    """One instance on its way: `receive` its data set, then `finish` or `discard`.

    `receive` raises no storage error: the sender is entitled to send the rest before it is told. When it never ends,
    it raises ProtocolError.
    """

    def __init__(self, store: Store, instance: Instance) -> None:
        self._store = store
        self._instance = instance
        sop_class_uid = instance.sop_class_uid
        with_title = filing.needs_title(sop_class_uid, store.policy)
        # What may turn out to be a dose report begins where that would go, and needs no room among the images.
        self._root = Root.DOSE_REPORTS if with_title else filing.root_of(sop_class_uid, {}, store.policy)
        self._header = HeaderReader(instance.transfer_syntax, with_title=with_title, from_a_peer=True)
        is_report = filing.is_structured_report(sop_class_uid)
        self._allowance = Allowance(store.max_object, None if is_report else store.free[self._root])
        self._unreadable: CannotUnderstand | None = None
        self._failure: StorageError | None = None
        self._path = ""
        self._descriptor = -1
        self._head_size = 0
        self._written_back = 0  # bytes of the data set that the system has been told to write to disk
        self.size = 0

    @property
    def subject(self) -> Subject:
        return Subject(self._instance, self._header.values)

    @property
    def has_failed(self) -> bool:
        """True once it can't be kept whatever comes: `finish` will say why."""
        return self._failure is not None

    def receive(self, data: memoryview) -> None:  # hot: bench
        """Append a fragment of the data set, exactly as it came."""
        self.size += len(data)
        if self._failure is not None:
            self._allowance.pass_over(self.size)
            return
        try:
            if self.size > self._allowance.next_look:
                self._allowance.require(self.size)
            if self._descriptor < 0:
                self._begin(data)
            else:
                files.write_all(self._descriptor, (data,))
                if self.size - self._written_back >= WRITE_BACK and self._store.durable:
                    self._write_back()
        except OSError as error:
            self._fail(files.out_of_resources(error, self._root.value))
            return
        except StorageError as error:
            self._fail(error)
            return
        if not self._header.is_complete and self._unreadable is None:
            try:
                self._header.receive(data)
            except CannotUnderstand as error:
                self._unreadable = error

    def finish(self) -> Stored:
        """Keep the instance for good.

        Raises OutOfResources, DataSetMismatch or DuplicateRefused when it is not kept, Quarantined when it is
        kept but could not be filed. Whatever is raised, no temporary file remains.
        """
        try:
            if self._failure is not None:
                raise self._failure
            if self._descriptor < 0:
                self._begin(memoryview(b""))
            return self._keep()
        except OSError as error:
            raise files.out_of_resources(error, self._root.value) from error
        except UnicodeEncodeError:
            raise OutOfResources(f"{self._root.value}: file system can't hold the folder's name") from None
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget the instance; harmless when it is already kept or gone."""
        with contextlib.suppress(OSError):  # nothing is promised any more
            self._close()
        path, self._path = self._path, ""
        if path:
            with contextlib.suppress(OSError):  # the next start removes what remains
                os.unlink(path)

    def _begin(self, data: memoryview) -> None:
        meta = FileMeta(
            self._instance.sop_class_uid,
            self._instance.sop_instance_uid,
            self._instance.transfer_syntax,
            self._instance.calling_ae_title,
        )
        head = part10.encode(meta)
        self._head_size = len(head)
        self._path, self._descriptor = self._store.incoming[self._root].create()
        files.write_all(self._descriptor, (head, data))

    def _write_back(self) -> None:
        """Have a part of a large object written while the next part comes: the sync at its end finds little to do."""
        start, size = self._head_size + self._written_back, self.size - self._written_back
        files.write_back(self._descriptor, start, size)
        self._written_back = self.size

    def _keep(self) -> Stored:
        try:
            if self._unreadable is not None:
                raise self._unreadable
            self._header.end()
            self._header.check_size(self.size)
        except CannotUnderstand as error:
            root = filing.root_of(self._instance.sop_class_uid, {}, self._store.policy)
            quarantine = filing.quarantine(root, self._instance.sop_instance_uid)
            raise Quarantined(str(error), self._file(quarantine, Duplicates.BOTH)) from None
        self._check_identity()
        instance = self._instance
        destination = filing.destination(
            instance.sop_class_uid, instance.sop_instance_uid, self._header.values, self._store.policy
        )
        return self._file(destination, self._store.duplicates)

    def _check_identity(self) -> None:
        """The data set may not contradict the command. Where it says nothing, the command counts."""
        for tag, name, expected in (
            (header.SOP_CLASS_UID, "SOP Class UID", self._instance.sop_class_uid),
            (header.SOP_INSTANCE_UID, "SOP Instance UID", self._instance.sop_instance_uid),
        ):
            got = self._header.text_of(tag)
            if got and got != expected:
                raise DataSetMismatch(f"{name} of data set and command differ")

    def _file(self, destination: Destination, duplicates: Duplicates) -> Stored:
        """Give the temporary file its final name, or find that it is there already."""
        self._seal()
        if destination.root is not self._root:
            self._root = destination.root  # an error from here on is that root's
            self._path = self._store.incoming[self._root].take_over(self._path, durable=self._store.durable)
        tree = self._store.trees[destination.root]
        folder, folders = tree.folder(destination.folders, destination.owners)
        try:
            file_name, outcome = self._place(folder, destination, duplicates)
        except FileNotFoundError:  # the folder was removed since we made it, unless all is gone
            os.stat(self._path)
            tree.forget()
            folder, folders = tree.folder(destination.folders, destination.owners)
            file_name, outcome = self._place(folder, destination, duplicates)
        tree.settle(folder)
        if self._store.durable:
            files.sync_folder(folder)
        return Stored(destination.root, folders, file_name, self.size, outcome)

    def _place(self, folder: str, destination: Destination, duplicates: Duplicates) -> tuple[str, Outcome]:
        """Take the first name that is free, unless the instance is there already under one of them."""
        outcome = Outcome.STORED
        for file_name in destination.file_names():
            path = os.path.join(folder, file_name)
            holder = _Holder.NOBODY
            while holder is _Holder.NOBODY:
                try:
                    files.give_name(self._path, path)
                except FileExistsError:
                    holder = self._holder_of(path)
                else:
                    self._path = ""
                    return file_name, outcome
            if holder is _Holder.THIS_DATA_SET:
                if self._store.durable:
                    files.sync_file(path)  # its first sender may have gone before it was
                return file_name, Outcome.IDENTICAL
            if holder is _Holder.THIS_INSTANCE and duplicates is Duplicates.KEEP:
                raise DuplicateRefused("another data set with this UID is kept")
            if holder is _Holder.THIS_INSTANCE and duplicates is Duplicates.REPLACE:
                files.replace(self._path, path)
                self._path = ""
                return file_name, Outcome.REPLACED
            outcome = Outcome.NUMBERED
        raise AssertionError("names never run out")

    def _holder_of(self, path: str) -> "_Holder":
        """Whose file has the name; a fault of the disk is raised, and decides nothing."""
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never answer
                return _Holder.ANOTHER
            with files.open_to_read(path) as file:
                meta = part10.read(file)
                start = file.tell()
        except FileNotFoundError:  # a link that leads nowhere has the name all the same
            return _Holder.ANOTHER if os.path.islink(path) else _Holder.NOBODY
        except (CannotUnderstand, PermissionError):
            return _Holder.ANOTHER
        if meta.media_storage_sop_instance_uid != self._instance.sop_instance_uid:
            return _Holder.ANOTHER
        is_same_syntax = meta.transfer_syntax_uid == self._instance.transfer_syntax
        if is_same_syntax and files.same_content(path, start, self._path, self._head_size):
            return _Holder.THIS_DATA_SET
        return _Holder.THIS_INSTANCE

    def _seal(self) -> None:
        if self._store.durable:
            os.fsync(self._descriptor)
        self._close()

    def _close(self) -> None:
        """Close once; a file system that reports a full disk only now is heard (close(2), NFS)."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _fail(self, failure: StorageError) -> None:
        self._failure = failure
        self.discard()
