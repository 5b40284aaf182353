"""`dcmstore run`: settings -> a receiver in the foreground, until a signal."""

import argparse

from dcmstore import profile, wiring
from dcmstore.commands import needs
from dcmstore.config import Configuration
from dcmstore.errors import reason_of
from dcmstore.events import FolderUpdater
from dcmstore.logs import Log
from dcmstore.profile import Profile
from dcmstore.server import Server
from dcmstore.signals import Signals


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    needs.require_roots(configuration)
    in_force = profile.in_force(configuration)
    log = wiring.open_log(configuration)
    for warning in (*configuration.warnings, *(in_force.warnings if in_force else ())):
        log.warning("config.warning", text=warning)
    try:
        with wiring.dicomdir_updater(configuration, log) as updater:
            return _receive(configuration, in_force, updater, log)
    finally:
        log.close()


def _receive(configuration: Configuration, in_force: Profile | None, updater: FolderUpdater | None, log: Log) -> int:
    settings, signals = configuration.settings, Signals()
    if problem := needs.raise_open_files(settings):
        log.warning("config.warning", text=problem)
    store = wiring.store_of(settings)
    server = Server(settings, store, log, in_force.sop_classes if in_force else None, updater, signals.wake)
    try:
        removed = store.open()
    except OSError as error:
        store.close()
        log.error("receiver.failed", reason=wiring.as_written(f"{error.filename}: {reason_of(error)}"))
        return 1
    try:
        server.start()
    except OSError as error:
        store.close()
        reason = f"port {settings.port}: {needs.port_problem(error)}"
        log.error("receiver.failed", reason=reason, what_to_do=needs.PORT_ADVICE)
        return 1
    if removed:
        log.warning("store.cleared", unfinished_objects=removed, of="a run that did not end by itself")
    log.info(
        "receiver.listening",
        ae=settings.local_ae,
        port=server.address[1],
        images=settings.img_dir,
        rdsr=settings.rdsr_dir,
        profile=in_force.name if in_force else None,
    )
    signals.wait()
    log.info("receiver.stopping", associations=server.associations, timeout=settings.stop_timeout)
    server.stop(settings.stop_timeout)
    store.close()
    log.info("receiver.stopped")
    return int(server.has_fault)
