"""what was sent and what was answered -> what must be on disk, and whether it is."""

import contextlib
import random
import re
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from dcmstore.storage.filing import Root
from dcmstore.storage.names import INCOMING
from dcmstore.storage.store import Duplicates
from tests.support import stored_data_set
from torture.objects import Sending, content_of, place_of

SENT_AGAIN = 0.1  # of all objects: the same data set once more
SENT_CHANGED = 0.15  # of all objects: another data set under a UID that was sent before

_NAME = re.compile(r"(?P<uid>[0-9.]+?)( \(\d+\))?\.dcm")


class Ledger:
    """The sender's own account, as a modality keeps it: what had no answer is sent again. Any thread may write.

    `duplicates` is the receiver's setting: whether every version of a UID must be kept, or the newest in place of all.
    """

    def __init__(self, chance: random.Random, duplicates: Duplicates) -> None:
        self.acknowledged = 0
        self._sent: defaultdict[str, set[int]] = defaultdict(set)
        self._kept: defaultdict[str, set[int]] = defaultdict(set)
        self._touched: set[str] = set()
        self._in_doubt: list[Sending] = []
        self._settled: list[Sending] = []
        self._lock = threading.Lock()
        self._chance = chance
        self._duplicates = duplicates

    def take(self) -> Sending:
        """What to send next; `keep` or `doubt` must follow. No UID is taken by two senders at once."""
        with self._lock:
            sending = self._next()
            self._sent[sending.uid].add(sending.version)
            self._touched.add(sending.uid)
            return sending

    def _next(self) -> Sending:
        if self._in_doubt:
            return self._in_doubt.pop()
        roll = self._chance.random()
        if self._settled and roll < SENT_AGAIN + SENT_CHANGED:
            settled = self._settled.pop(self._chance.randrange(len(self._settled)))
            return settled if roll < SENT_AGAIN else Sending(settled.uid, settled.version + 1)
        return Sending(f"1.2.3.{len(self._sent) + 1}")

    def keep(self, sending: Sending) -> None:
        """It was answered with success."""
        with self._lock:
            self.acknowledged += 1
            self._kept[sending.uid].add(sending.version)
            self._settled.append(sending)

    def doubt(self, sending: Sending) -> None:
        """It was not answered, or with failure: it may be there, whole, or not."""
        with self._lock:
            self._in_doubt.append(sending)

    def judge(self, roots: Mapping[Root, Path], *, everything: bool, elsewhere: bool = True) -> list[str]:
        """What is wrong on disk, in words: of everything, or of what was sent since the last look.

        With `elsewhere`, what lies where nothing belongs is wrong too.
        """
        with self._lock:
            uids = set(self._sent) if everything else self._touched
            self._touched = set()
        if elsewhere:
            found, faults = _files_below(roots)
            faults += [f"{path} was never sent" for uid in found.keys() - self._sent.keys() for path in found[uid]]
        else:
            found, faults = _files_in_place(roots, uids), []
        return faults + [fault for uid in sorted(uids) for fault in self._judge_uid(uid, found[uid], roots)]

    def _judge_uid(self, uid: str, paths: Iterable[Path], roots: Mapping[Root, Path]) -> list[str]:
        root, folder = place_of(uid)
        contents: dict[bytes | None, int] = {content_of(Sending(uid, number)): number for number in self._sent[uid]}
        faults, versions = [], []
        for path in paths:
            if path.parent != roots[root] / folder:
                faults.append(f"{path} is in the wrong folder")
            version = contents.get(_data_set_of(path))
            if version is None:
                faults.append(f"{path} has a name and is not whole")
            else:
                versions.append(version)
        return faults + self._judge_versions(uid, sorted(versions))

    def _judge_versions(self, uid: str, versions: list[int]) -> list[str]:
        """What is wrong about the whole files of a UID, given by their versions."""
        if len(set(versions)) < len(versions):
            return [f"{uid} is there twice with the same data set"]
        kept = self._kept.get(uid, set())
        if self._duplicates is Duplicates.BOTH:
            return [f"version {number} of {uid} was acknowledged and is not there" for number in kept - set(versions)]
        if len(versions) > 1:
            return [f"{uid} is there {len(versions)} times in spite of duplicates= replace"]
        if kept and (not versions or versions[0] < max(kept)):
            return [f"version {max(kept)} of {uid} was acknowledged and is not there, but {versions or 'nothing'}"]
        return []


def leftovers(roots: Mapping[Root, Path]) -> list[Path]:
    """The temporary files of objects under way. A start removes those of killed runs."""
    return [path for root in roots.values() for path in root.glob(f"{INCOMING}/*.part")]


def _files_below(roots: Mapping[Root, Path]) -> tuple[defaultdict[str, list[Path]], list[str]]:
    """The files with a final name by UID, and faults for those whose name is none of ours."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    faults = []
    for root in roots.values():
        for path in root.rglob("*"):
            if INCOMING in path.parts or "lost+found" in path.parts or path.is_dir():
                continue
            if match := _NAME.fullmatch(path.name):
                found[match["uid"]].append(path)
            else:
                faults.append(f"{path} has a name that nothing asked for")
    return found, faults


def _files_in_place(roots: Mapping[Root, Path], uids: Iterable[str]) -> defaultdict[str, list[Path]]:
    """The files of these UIDs in the folders where they belong."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for uid in uids:
        root, folder = place_of(uid)
        with contextlib.suppress(OSError):  # a folder that is not there, or that nothing can be made of
            for path in (roots[root] / folder).glob(f"{uid}*.dcm"):
                if (match := _NAME.fullmatch(path.name)) and match["uid"] == uid:
                    found[uid].append(path)
    return found


def _data_set_of(path: Path) -> bytes | None:
    """The stored data set, or None where the file is not even that far."""
    try:
        return stored_data_set(path)
    except (ValueError, struct.error, OSError):
        return None
