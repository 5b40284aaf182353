"""The command `dcmstore`: words -> settings, store and server -> exit code.

0: done. 1: it ran and the answer is no. 2: usage or configuration is wrong, in one line that names what.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dcmstore import __version__, config, importing, logs, profile, scu, sockets, wiring
from dcmstore.config import Configuration
from dcmstore.errors import CannotUnderstand, ConfigurationError
from dcmstore.events import AssociationEvents, FolderUpdater
from dcmstore.importing import Verdict
from dcmstore.profile import Profile
from dcmstore.server import Server
from dcmstore.settings import Settings, keys_in_order, shown
from dcmstore.signals import Signals
from dcmstore.storage.examine import examine
from dcmstore.storage.filing import Root
from dcmstore.storage.store import Store

LOW_SPACE = 1024**3  # bytes free below which `check` warns
LOG_NAME = "DcmStore.log"
JOURNAL_NAME = "DcmStore.dicomdir"  # DICOMDIRs that are still to be written


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except ConfigurationError as error:
        print(f"dcmstore: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dcmstore", description="A DICOM Storage SCP that files what it receives.")
    parser.add_argument("--version", action="version", version=f"dcmstore {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=command)
        return added

    def add_config(added: argparse.ArgumentParser) -> None:
        about = f"the settings (default: {config.FILE_NAME} in this folder)"
        added.add_argument("--config", type=Path, metavar="PATH", default=Path(config.FILE_NAME), help=about)

    made = add("init", _init, "Make a folder with a commented DcmStore.ini and the two root folders.")
    made.add_argument("folder", type=Path, metavar="DIR")
    add_config(add("run", _run, "Receive in the foreground until Ctrl-C."))
    add_config(add("check", _check, "Show every setting and test what `run` will need."))
    where = add("where", _where, "Print where DICOM files would be filed, without touching anything.")
    where.add_argument("files", nargs="+", metavar="FILE")
    add_config(where)
    imported = add("import", _import, "File DICOM files that lie on disk as if they had been received.")
    imported.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    imported.add_argument("--move", action="store_true", help="remove each file once it is filed")
    imported.add_argument("--dry-run", action="store_true", help="only print where each file would be filed")
    add_config(imported)
    echo = add("echo", _echo, "Send a C-ECHO and say whether it was answered.")
    echo.add_argument("host", metavar="HOST")
    echo.add_argument("port", type=int, metavar="PORT")
    echo.add_argument("--called", metavar="AE", default="ANY-SCP", help="AE title to call (default: ANY-SCP)")
    echo.add_argument("--calling", metavar="AE", default="DCMSTORE", help="AE title to call as (default: DCMSTORE)")
    echo.add_argument("--timeout", type=float, metavar="SECONDS", default=10.0, help="(default: 10)")
    return parser


# --- init ----------------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> int:
    """Make what is missing; what is there stays as it is."""
    ini: Path = options.folder / config.FILE_NAME
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        if ini.exists():
            print(f"kept    {ini}")
        else:
            ini.write_text(config.sample(), encoding="utf-8")
            print(f"made    {ini}")
        settings = config.read(ini).settings
        for folder in (settings.img_dir, settings.rdsr_dir):
            print(f"{'kept' if folder.is_dir() else 'made'}    {folder}")
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: can't be made: {error.strerror}") from None
    return 0


# --- run -----------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    configuration = _read(options.config)
    _require_roots(configuration)
    in_force = profile.in_force(configuration)
    log = _open_log(configuration.settings, options.config)
    for warning in (*configuration.warnings, *(in_force.warnings if in_force else ())):
        log.warning("config.warning", text=warning)
    try:
        with _dicomdir_updater(configuration, log) as updater:
            return _receive(configuration, in_force, updater, log)
    finally:
        log.close()


def _receive(
    configuration: Configuration, in_force: Profile | None, updater: FolderUpdater | None, log: logs.Log
) -> int:
    settings, signals = configuration.settings, Signals()
    store = wiring.store_of(settings)
    server = Server(settings, store, log, in_force.sop_classes if in_force else None, updater)
    try:
        removed = store.open()
    except OSError as error:
        log.error("receiver.failed", reason=f"{error.filename}: {error.strerror}")
        return 1
    try:
        server.start()
    except OSError as error:
        store.close()
        log.error("receiver.failed", reason=f"port {settings.port}: {_port_problem(error)}", what_to_do=_PORT_ADVICE)
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
    return 0


@contextlib.contextmanager
def _dicomdir_updater(configuration: Configuration, log: logs.Log) -> Iterator[FolderUpdater | None]:
    """What keeps the DICOMDIRs while the receiver runs, if it is asked to."""
    settings = configuration.settings
    if not (settings.dicomdir and settings.folder_tree):
        yield None
        return
    from dcmstore import dicomdir  # and with it pydicom, which nobody else needs

    dicomdir.require()

    def report(event: str, **facts: object) -> None:
        (log.warning if event == "dicomdir.failed" else log.info)(event, **_masked(facts, settings))

    journal = configuration.path.absolute().parent / JOURNAL_NAME
    try:
        updater = dicomdir.Updater(str(journal), report)
    except OSError as error:
        raise ConfigurationError(f"dicomdir= 1: {journal} can't be written: {error.strerror}") from None
    updater.start()
    try:
        yield updater
    finally:
        if updater.close(settings.stop_timeout):
            journal.unlink(missing_ok=True)


def _masked(facts: Mapping[str, object], settings: Settings) -> dict[str, object]:
    """The master folder bears the patient's name or ID; the log shows it only where it is asked to."""
    return dict(facts) if settings.log_patient else {**facts, "folder": "*"}


def _open_log(settings: Settings, ini: Path) -> logs.Log:
    sinks = logs.stderr_sinks()
    if settings.logfile:
        path = ini.absolute().parent / LOG_NAME
        try:
            sinks.append(logs.FileSink(path, settings.logfile_size * logs.MEGABYTE, settings.logfile_keep))
        except OSError as error:
            raise ConfigurationError(f"logfile= 1: {path} can't be written: {error.strerror}") from None
    return logs.Log(sinks, settings.log_level)


# --- check ---------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    configuration = _read(options.config)
    settings = configuration.settings
    in_force = profile.in_force(configuration)
    for field_name, key in keys_in_order():
        value = shown(getattr(settings, field_name))
        print(f"{key.name + '=':20} {value:40} ({configuration.source(field_name)})")
    print()
    problems = False
    for is_fine, text in _findings(configuration, in_force):
        problems |= not is_fine
        print(f"{'ok  ' if is_fine else 'FAIL'}  {text}")
    return int(problems)


def _findings(configuration: Configuration, in_force: Profile | None) -> Iterator[tuple[bool, str]]:
    """What `run` will need, each with whether it is there."""
    settings = configuration.settings
    for warning in (*configuration.warnings, *(in_force.warnings if in_force else ())):
        yield True, f"note: {warning}"
    yield True, _what_is_accepted(in_force)
    for root, folder in wiring.roots_of(settings).items():
        problem = _folder_problem(folder)
        if problem:
            yield False, _root_message(configuration, root, folder, problem)
            continue
        free = shutil.disk_usage(folder).free
        yield free >= LOW_SPACE, f"{root.value} {folder} can be written, {free / 1024**3:.1f} GiB free"
    try:
        sockets.listen(settings.bind, settings.port).close()
        yield True, f"port {settings.port} is free"
    except OSError as error:
        yield False, f"port {settings.port}: {_port_problem(error)}; {_PORT_ADVICE}"


def _what_is_accepted(in_force: Profile | None) -> str:
    if in_force is None:
        return f"no {profile.FILE_NAME}: every SOP class and transfer syntax"
    others = [name for name in in_force.names if name != in_force.name]
    return (
        f"{in_force.path}, profile {in_force.name} (line {in_force.line}): {len(in_force.sop_classes)} SOP classes"
        + (f"; not in use: {', '.join(others)}" if others else "")
    )


# --- where, import and echo ------------------------------------------------------------------------------


def _where(options: argparse.Namespace) -> int:
    settings = _read(options.config).settings
    roots, policy, code = wiring.roots_of(settings), wiring.filing_policy_of(settings), 0
    for name in options.files:
        try:
            destination = examine(name).destination(policy)
        except (CannotUnderstand, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"dcmstore: {name}: {reason}", file=sys.stderr)
            code = 1
            continue
        print(f"{name} -> {roots[destination.root].joinpath(*destination.folders, destination.file_name)}")
    return code


def _import(options: argparse.Namespace) -> int:
    configuration = _read(options.config)
    for folder in options.folders:
        if not folder.exists():
            raise ConfigurationError(f"FOLDER {folder}: does not exist")
    _require_roots(configuration)
    sources = importing.find_files(options.folders)
    if options.dry_run:
        return _import_dry(sources, configuration.settings)
    log = logs.Log(logs.stderr_sinks(), "warning")
    store = wiring.store_of(configuration.settings)
    store.open()
    try:
        with _dicomdir_updater(configuration, log) as updater:
            return _import_all(sources, store, AssociationEvents(store, updater), move=options.move)
    finally:
        store.close()
        log.close()


def _import_dry(sources: list[Path], settings: Settings) -> int:
    roots, policy, others = wiring.roots_of(settings), wiring.filing_policy_of(settings), 0
    for source in sources:
        try:
            destination = examine(source).destination(policy)
        except (CannotUnderstand, OSError):
            others += 1
            continue
        print(f"{source} -> {roots[destination.root].joinpath(*destination.folders, destination.file_name)}")
    print(f"{len(sources) - others} to file, {others} not DICOM or not readable")
    return 0


def _import_all(sources: list[Path], store: Store, events: AssociationEvents, *, move: bool) -> int:
    from tqdm import tqdm  # nothing else needs it

    counts: Counter[Verdict] = Counter()
    is_whole = False
    with tqdm(total=len(sources), unit="file", disable=None) as bar:
        try:
            for imported in importing.import_files(sources, store, move=move):
                counts[imported.verdict] += 1
                if imported.stored is not None:
                    events.stored(imported.stored)
                if imported.verdict is Verdict.FAILED:
                    bar.write(f"dcmstore: {imported.source}: {imported.reason}", file=sys.stderr)
                bar.update()
            is_whole = True
        except KeyboardInterrupt:
            bar.write("dcmstore: interrupted; the same command goes on from here", file=sys.stderr)
    events.ended()
    print(", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict))
    return 0 if is_whole and not counts[Verdict.FAILED] else 1


def _echo(options: argparse.Namespace) -> int:
    if not 1 <= options.port <= 65535:
        raise ConfigurationError(f"PORT {options.port}: allowed is 1 to 65535")
    try:
        seconds = scu.echo(
            options.host,
            options.port,
            called_ae_title=options.called,
            calling_ae_title=options.calling,
            timeout=options.timeout,
        )
    except scu.EchoFailed as error:
        print(f"dcmstore: {error}", file=sys.stderr)
        return 1
    print(f"{options.called} at {options.host} port {options.port} answered in {seconds * 1000:.1f} ms")
    return 0


def _read(path: Path) -> Configuration:
    configuration = config.read(path)
    for warning in configuration.warnings:
        print(f"dcmstore: {warning}", file=sys.stderr)
    return configuration


# --- what can be wrong with the machine ----------------------------------------------------------

_PORT_ADVICE = "end the other program or set another `port`"


def _folder_problem(folder: Path) -> str:
    """Why a root folder can't be used, or nothing."""
    if not folder.exists():
        return "does not exist; make it, or let `dcmstore init` make it"
    if not folder.is_dir():
        return "is not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"can't be written: {error.strerror}"


def _require_roots(configuration: Configuration) -> None:
    """Raises ConfigurationError unless both root folders are there and can be written."""
    for root, folder in wiring.roots_of(configuration.settings).items():
        if problem := _folder_problem(folder):
            raise ConfigurationError(_root_message(configuration, root, folder, problem))


def _root_message(configuration: Configuration, root: Root, folder: Path, problem: str) -> str:
    field_name = {Root.IMAGES: "img_dir", Root.DOSE_REPORTS: "rdsr_dir"}[root]
    return f"{configuration.path}, {configuration.source(field_name)}: {root.value}= {folder} {problem}"


def _port_problem(error: OSError) -> str:
    return "no permission to listen on it" if isinstance(error, PermissionError) else str(error.strerror)
