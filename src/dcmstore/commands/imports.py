"""`dcmstore import`: folders -> their DICOM files filed, or only where they would be."""

import argparse
import contextlib
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from dcmstore import importing, needs, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.events import AssociationEvents, FileIndex, FolderUpdater
from dcmstore.importing import Imported, Verdict
from dcmstore.index.printing import escaped
from dcmstore.logs import Log
from dcmstore.settings import Settings
from dcmstore.storage.store import Store

IMPORT_LOG_NAME = "DcmStore-import.log"


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    for folder in options.folders:
        _require(folder)
    needs.require_roots(configuration)
    settings = configuration.settings
    wiring.apply_permissions(settings)
    not_read: list[OSError] = []
    sources = importing.find_files(options.folders, wiring.roots_of(settings).values(), not_read.append)
    for error in not_read:
        print(escaped(f"dcmstore: {error.filename}: {reason_of(error)}; what is in it is left out"), file=sys.stderr)
    code = _dry_run(sources, settings) if options.dry_run else _import(sources, configuration, move=options.move)
    return code or int(bool(not_read))


def _require(folder: Path) -> None:
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(f"FOLDER {folder}: does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"FOLDER {folder}: can't be looked at: {reason_of(error)}") from None


def _import(sources: list[Path], configuration: Configuration, *, move: bool) -> int:
    settings = configuration.settings
    # With --move the copy becomes the only one, so it has to survive a power cut whatever `durable` says.
    store = wiring.store_of(replace(settings, durable=settings.durable or move))
    # A log of its own: a running receiver puts its own one aside when it is full.
    log = wiring.open_log(configuration, IMPORT_LOG_NAME, with_console=False)
    try:
        if not _open(store):
            return 1
        with _updater(configuration, log) as updater, _index(configuration, log) as index:
            events = AssociationEvents(store, updater, index=index)
            return _import_all(sources, store, events, log, configuration, move=move)
    finally:
        store.close()
        log.close()


def _updater(configuration: Configuration, log: Log) -> contextlib.AbstractContextManager[FolderUpdater | None]:
    if not wiring.wants_dicomdir(configuration.settings):
        return contextlib.nullcontext()
    name = wiring.IMPORT_JOURNAL_NAME
    return wiring.dicomdir_updater(configuration, log, lambda: configuration.settings, name)


def _index(configuration: Configuration, log: Log) -> contextlib.AbstractContextManager[FileIndex | None]:
    """What is not in it when this ends early, is when it is begun again."""
    if not configuration.settings.index:
        wiring.forget_that_index_is_whole(configuration)
        return contextlib.nullcontext()
    return wiring.indexer(configuration, log, lambda: configuration.settings, keeps_whole=False)


def _open(store: Store) -> bool:
    try:
        store.open()
    except OSError as error:
        print(f"dcmstore: {wiring.as_written(str(error.filename))}: {reason_of(error)}", file=sys.stderr)
        return False
    return True


def _dry_run(sources: list[Path], settings: Settings) -> int:
    others = 0
    for place in importing.places(sources, wiring.roots_of(settings), wiring.filing_policy_of(settings)):
        if place.target is None:
            others += 1
            print(escaped(f"{place.source} : {place.reason}"))
        else:
            print(escaped(f"{place.source} -> {place.target}"))
    print(f"{len(sources) - others} to file, {others} not objects or not readable")
    return 0


def _import_all(
    sources: list[Path],
    store: Store,
    events: AssociationEvents,
    log: Log,
    configuration: Configuration,
    *,
    move: bool,
) -> int:
    from tqdm import tqdm  # nothing else needs it

    counts: Counter[Verdict] = Counter()
    kept = 0
    is_whole = False
    with tqdm(total=len(sources), unit="file", disable=None) as bar:
        try:
            for imported in importing.import_files(sources, store, move=move):
                counts[imported.verdict] += 1
                kept += bool(imported.kept)
                log.info("file.imported", **_facts(imported, configuration.settings))
                if imported.stored is not None:
                    events.stored(imported.stored)
                if problem := _problem(imported):
                    bar.write(escaped(f"dcmstore: {imported.source}: {problem}"), file=sys.stderr)
                bar.update()
            is_whole = True
        except KeyboardInterrupt:
            bar.write("dcmstore: interrupted; the same command goes on from here", file=sys.stderr)
    events.ended()
    print(", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict) + (f"; {kept} kept" if kept else ""))
    if counts[Verdict.NOT_DICOM]:
        print(f"{Verdict.NOT_DICOM.value}: {_where_listed(configuration)}")
    return 0 if is_whole and not counts[Verdict.FAILED] and not kept else 1


def _where_listed(configuration: Configuration) -> str:
    settings = configuration.settings
    if settings.logfile and settings.log_level in ("debug", "info"):
        log = configuration.path.absolute().parent / IMPORT_LOG_NAME
        return f"{log} has a line for each; --dry-run prints them with their folders"
    return "--dry-run prints them"


def _facts(imported: Imported, settings: Settings) -> dict[str, object]:
    """What the log says of one file: all that the console leaves out. Folders of an archive bear patients' names."""
    source = imported.source if settings.log_patient else imported.source.name
    facts: dict[str, object] = {"source": source, "became": imported.verdict.value}
    if imported.stored is not None:
        facts["file"] = imported.stored.file_name
        facts["outcome"] = imported.stored.outcome.value
    return facts | {"reason": imported.reason or imported.kept or None}


def _problem(imported: Imported) -> str:
    """What a person should know about one file, or nothing."""
    if imported.verdict is Verdict.FAILED:
        return imported.reason
    return f"{imported.verdict.value}, but the source is kept: {imported.kept}" if imported.kept else ""
