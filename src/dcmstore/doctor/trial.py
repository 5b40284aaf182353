"""a receiver and an object of ours -> whether the object comes to its place, whole; then it is removed again.

The object goes the way that any sender's goes: to the receiver that runs, if it is this program's and lets this
machine in. Else a receiver is started for the time of the test in this process, with the same folders and rules of
filing, but on a free port of the loopback address: on the configured one, a real sender might come in that moment,
and its object would belong to whoever runs this test. (That the configured port can be had is seen before.)

No trace stays in the folders. With a tree, the object has a patient of its own and so a master folder of its own;
with `dicomdir= 1` the DICOMDIR would be in that folder too. Its file and its folders are gone within moments, long
before the receiver writes DICOMDIRs, and of a folder that is gone it writes none. If it was quicker, its DICOMDIR is
removed with the folder. Other DICOMDIRs never hear of the object.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcmstore import receiver, scu, uids, wiring
from dcmstore.doctor import port
from dcmstore.doctor import specimen as specimens
from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.doctor.port import Answerer, Port
from dcmstore.doctor.specimen import SOP_CLASS, TRANSFER_SYNTAXES, Specimen
from dcmstore.errors import CannotUnderstand, reason_of
from dcmstore.logs import Log
from dcmstore.profile import Profile
from dcmstore.scu import Peer, ScuFailed
from dcmstore.server import Server, endpoints_of
from dcmstore.settings import Settings
from dcmstore.storage import files, part10
from dcmstore.storage.names import file_name_of
from dcmstore.storage.part10 import FileMeta

DICOMDIR = "DICOMDIR"
REMOVE_PATIENCE = 10.0  # seconds for a DICOMDIR that is being written into our folder, and for virus scanners
REMOVE_PAUSE = 0.1  # seconds between two tries


def findings(settings: Settings, in_force: Profile | None, ports: list[Port]) -> Iterator[Finding]:
    running = next((found.peer for found in ports if found.answerer is Answerer.OURS and found.peer), None)
    if running is not None:
        yield from _try(settings, in_force, running, is_running=True)
        return
    yield note(f"the test object goes to a receiver in this process, on a free port: {_why(ports)}")
    try:
        with _own_receiver(settings, in_force) as (peer, removed):
            if removed:
                yield note(f"{removed} unfinished objects of a run that did not end by itself were removed")
            yield from _try(settings, in_force, peer, is_running=False)
    except OSError as error:
        where = f"{wiring.as_written(str(error.filename))}: " if error.filename else ""
        yield fail(f"no receiver can be started: {where}{reason_of(error)}", "see to that first, then try again")


def _why(ports: list[Port]) -> str:
    if all(found.answerer is Answerer.NOBODY for found in ports):
        return "none runs"
    return next((f"none answers from here ({found.why})" for found in ports if found.why), "none answers")


@contextlib.contextmanager
def _own_receiver(settings: Settings, in_force: Profile | None) -> Iterator[tuple[Peer, int]]:
    """A receiver for this test: whom to call, and how many unfinished objects its start removed. Raises OSError."""
    own = replace(settings, bind="127.0.0.1", port=0, **_OPEN_TO_ALL)
    store = wiring.store_of(own)
    log = Log([])  # the answers say what there is to say
    try:
        removed = store.open()
        accepted = in_force.sop_classes if in_force else None
        server = Server(own, receiver.shared_of(own, store, log, accepted), log)
        server.start()
        try:
            yield replace(port.caller(own, endpoints_of(own)[0]).peer, port=server.address[1]), removed
        finally:
            server.stop(own.stop_timeout)
    finally:
        store.close()
        log.close()


# What would turn this test away, or needs more than a free port.
_OPEN_TO_ALL: dict[str, Any] = {
    "allowed_ae": (),
    "allowed_hosts": (),
    "users": None,
    "require_user": False,
    "tls_port": 0,
    "tls_only": False,
    "tls_names": (),
}


# --- one object there and away -----------------------------------------------------------------------


def _try(settings: Settings, in_force: Profile | None, peer: Peer, *, is_running: bool) -> list[Finding]:
    """What became of a C-ECHO and a C-STORE. Whatever happens, the object is removed again if it can be found."""
    specimen = specimens.specimen()
    found: list[Finding] = []
    try:
        for finding in _send(settings, in_force, peer, specimen):
            found.append(finding)  # so that what came before a failure is told
    except ScuFailed as failure:
        later = f"; should a patient {specimen.patient_id} turn up later, it is this test" if found else ""
        found.append(fail(f"{_shown(peer)}: {failure}", _ADVICE[is_running] + later))
    finally:
        found += _remove(settings, specimen)
    return found


# By whether the receiver runs elsewhere.
_ADVICE = {
    True: "the last lines of its log say more; if it has not read this ini yet: `dcmstore reload`",
    False: "correct what it names, and try again",
}


def _send(settings: Settings, in_force: Profile | None, peer: Peer, specimen: Specimen) -> Iterator[Finding]:
    """Raises ScuFailed."""
    is_taken = in_force is None or not set(TRANSFER_SYNTAXES).isdisjoint(in_force.sop_classes.get(SOP_CLASS, ()))
    proposals: dict[str, tuple[str, ...]] = {uids.VERIFICATION: (uids.IMPLICIT_VR_LITTLE_ENDIAN,)}
    if is_taken:
        proposals[SOP_CLASS] = TRANSFER_SYNTAXES
    data_set, seconds = b"", 0.0
    with scu.associated(peer, proposals) as association:
        answered = association.echo()
        yield ok(f"C-ECHO: {_shown(peer)} answered {peer.calling_ae_title} in {answered * 1000:.1f} ms")
        if is_taken:
            transfer_syntax = association.transfer_syntax_of(SOP_CLASS)
            data_set = specimen.data_set(transfer_syntax)
            seconds = association.store(SOP_CLASS, specimen.sop_instance_uid, data_set)
    if not is_taken:
        assert in_force is not None
        name = uids.name_of(SOP_CLASS)
        yield note(f"no C-STORE: profile {in_force.name} takes no uncompressed {name}, which the test object is")
        return
    meta = FileMeta(SOP_CLASS, specimen.sop_instance_uid, transfer_syntax, peer.calling_ae_title)
    yield _judge(settings, specimen, meta, data_set, seconds)


def _judge(settings: Settings, specimen: Specimen, meta: FileMeta, data_set: bytes, seconds: float) -> Finding:
    """Whether an object that was answered with success is where it belongs, and is what was sent."""
    expected, path = _place(settings, specimen), _find(settings, specimen)
    answered = f"C-STORE: the test object was answered with success in {seconds * 1000:.1f} ms"
    if path is None:
        where = f"{answered}, but is not at {expected}: what runs has other settings than this ini"
        stays = f"where that one files, patient {specimen.patient_id} is to be removed, which is this test"
        return fail(where, f"`dcmstore reload`, or give `--config` its ini; {stays}")
    if path != expected:
        return fail(
            f"{answered}, and is at {path}, not at {expected}: what runs has older settings", "`dcmstore reload`"
        )
    if problem := _difference(path, meta, data_set):
        return fail(f"{answered}, but {path} {problem}", "look for faults of the disk, and report this line")
    return ok(f"{answered}, found byte for byte at {path}")


def _difference(path: Path, meta: FileMeta, data_set: bytes) -> str:
    try:
        with open(_to_system(path), "rb") as file:
            if part10.read(file) != meta:
                return "has another File Meta Information"
            return "" if file.read() == data_set else "is not what was sent"
    except (OSError, CannotUnderstand) as error:
        return f"can't be read: {reason_of(error)}"


# --- where it is -------------------------------------------------------------------------------------


def _place(settings: Settings, specimen: Specimen) -> Path:
    destination = specimen.destination(wiring.filing_policy_of(settings))
    return wiring.roots_of(settings)[destination.root].joinpath(*destination.folders, destination.file_name)


def _find(settings: Settings, specimen: Specimen) -> Path | None:
    """The file of an object: in its place, or where a receiver under older settings has filed it."""
    expected = _place(settings, specimen)
    if os.path.lexists(_to_system(expected)):
        return expected
    return next((path for path in _candidates(settings, specimen) if _is_of(path, specimen)), None)


def _candidates(settings: Settings, specimen: Specimen) -> Iterator[Path]:
    """Files that a receiver made of this object, by the names that only it can have."""
    names = (specimen.patient_id, specimen.patient_name, file_name_of(specimen.sop_instance_uid))
    for root in wiring.roots_of(settings).values():
        for name in names:
            yield root / name
            for folder, _, file_names in os.walk(_to_system(root / name)):
                yield from (Path(wiring.as_written(folder), file_name) for file_name in file_names)


def _is_of(path: Path, specimen: Specimen) -> bool:
    try:
        with open(_to_system(path), "rb") as file:
            return part10.read(file).media_storage_sop_instance_uid == specimen.sop_instance_uid
    except (OSError, CannotUnderstand):
        return False


def _remove(settings: Settings, specimen: Specimen) -> list[Finding]:
    """Remove the object's file, and the folders that were made for it alone."""
    path = _find(settings, specimen)
    if path is None:
        return []
    root = next(root for root in wiring.roots_of(settings).values() if root in path.parents)
    folders = [folder for folder in path.parents if root in folder.parents]
    directory = folders[-1] / DICOMDIR if folders and wiring.wants_dicomdir(settings) else None
    deadline = time.monotonic() + REMOVE_PATIENCE
    while problem := _remove_once([file for file in (path, directory) if file is not None], folders):
        if time.monotonic() > deadline:
            return [fail(f"the test object can't be removed: {problem}", f"remove {folders[-1] if folders else path}")]
        time.sleep(REMOVE_PAUSE)
    return [ok("the test object is removed again" + (", with the folders that were made for it" if folders else ""))]


def _remove_once(unwanted: list[Path], folders: list[Path]) -> str:
    """Remove files and then folders, the inner ones first; return what hinders."""
    for remove, paths in ((os.unlink, unwanted), (os.rmdir, folders)):
        for path in paths:
            try:
                remove(_to_system(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"{path}: {reason_of(error)}"
    return ""


def _to_system(path: Path) -> str:
    return wiring.long_path(str(path)) if files.IS_WINDOWS else str(path)


def _shown(peer: Peer) -> str:
    return f"{peer.called_ae_title} at {peer.host} port {peer.port}"
