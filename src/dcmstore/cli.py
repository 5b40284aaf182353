"""The command `dcmstore`: words -> one of the commands -> exit code.

0: done. 1: it ran and the answer is no. 2: usage or configuration is wrong, in one line that names what.
"""

import argparse
import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from dcmstore import __version__, config, scu, values
from dcmstore.commands import listing, queue_listing
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.index import times
from dcmstore.journal import error_mark
from dcmstore.settings import Settings

_Value = TypeVar("_Value")
_Command: TypeAlias = Callable[[argparse.Namespace], int]
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_OUTPUT_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a file that standard output leads to

# Connections go on until the process ends, and even then an object is acknowledged only when it is whole on disk.
_CUT_SHORT = "ended early; what was acknowledged is on disk, and what was not is for its sender to send again"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    os.umask(Settings().permissions.umask)  # until the ini has been read
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except ConfigurationError as error:
        print(f"{error_mark()}dcmstore: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _let_go_of_output()
        return 1
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_FAULTS:
            raise
        _let_go_of_output()
        print(f"dcmstore: the output can't be written: {reason_of(error)}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        text = f"{error.object!a} can't be written in {error.encoding}, which this environment asks for"
        print(f"dcmstore: {text}; set PYTHONUTF8=1, or a locale with UTF-8", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"dcmstore: {options.if_interrupted}", file=sys.stderr)
        return 130
    return code


def _let_go_of_output() -> None:
    """What is left of it would be tried again at the end of the process, and fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dcmstore", description="A DICOM Storage SCP that files what it receives.")
    parser.add_argument("--version", action="version", version=f"dcmstore {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    made = _add(
        commands, "init", _late("init"), "Make a folder with a commented DcmStore.ini and the two root folders."
    )
    made.add_argument("folder", type=Path, metavar="DIR")
    received = _add(commands, "run", _late("run"), "Receive in the foreground until Ctrl-C.")
    received.set_defaults(if_interrupted=_CUT_SHORT)
    _add_config(received)
    _add_config(_add(commands, "check", _late("check"), "Show every setting and test what `run` will need."))
    about = "Look for what usually goes wrong, and send the receiver a test object."
    _add_config(_add(commands, "doctor", _late("doctor"), about))
    placed = _add(
        commands, "where", _late("where"), "Print where DICOM files would be filed, without touching anything."
    )
    placed.add_argument("files", nargs="+", metavar="FILE")
    _add_config(placed)
    about = "File DICOM files that lie on disk as if they had been received."
    imported = _add(commands, "import", _late("imports"), about)
    imported.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    imported.add_argument("--move", action="store_true", help="remove each file once it is filed")
    imported.add_argument("--dry-run", action="store_true", help="only print where each file would be filed")
    _add_config(imported)
    _add_list(commands)
    _add_verify(commands)
    about = "Make the index agree with the folders; safe to interrupt and to repeat."
    _add_config(_add(commands, "reindex", _late("reindex"), about))
    about = "Show forwards and commitments that wait or are dead: exit code 1 when one is dead."
    _add_queue(commands, "queue", _late("queue_listing", "queue"), about)
    about = "Show hooks that wait or are dead: exit code 1 when one is dead."
    _add_queue(commands, "hooks", _late("queue_listing", "hooks"), about)
    _add_service(commands)
    _add_user(commands)
    _add_echo(commands)
    return parser


def _add_list(commands: _Commands) -> None:
    about = "List what was received, the newest last. Exit code 1 when nothing was found. Needs index= 1."
    listed = _add(commands, "list", _late("listing"), about)
    listed.add_argument("kind", nargs="?", choices=listing.KINDS, default="studies", help="(default: %(default)s)")
    about = "Patient ID; a * stands for anything, here and in AE, HOST and MODALITY; case does not count"
    listed.add_argument("--patient", metavar="ID", default="", help=about)
    about = "part of the Patient's Name; case and accents do not count"
    listed.add_argument("--name", metavar="TEXT", default="", help=about)
    listed.add_argument("--ae", metavar="AE", default="", help="AE title of the sender")
    listed.add_argument("--host", metavar="HOST", default="", help="address of the sender")
    listed.add_argument("--modality", metavar="MODALITY", default="", help="as CT")
    day = _allowed(times.study_dates, times.STUDY_DATE_ALLOWED)
    listed.add_argument("--study-date", type=day, metavar="DATE", help=times.STUDY_DATE_ALLOWED)
    since, until = _allowed(times.since, times.MOMENT_ALLOWED), _allowed(times.until, times.MOMENT_ALLOWED)
    listed.add_argument("--since", type=since, metavar="WHEN", help=f"came then or later: {times.MOMENT_ALLOWED}")
    listed.add_argument("--until", type=until, metavar="WHEN", help="came then or earlier; a day counts whole")
    limit = _allowed(*values.number(1, 999_999_999))
    listed.add_argument("--limit", type=limit, metavar="NUMBER", help="only so many, the newest")
    written = listed.add_mutually_exclusive_group()
    written.add_argument("--json", action="store_true", help="one array, with every attribute")
    written.add_argument("--csv", action="store_true", help="with a header, and every attribute")
    _add_config(listed)


def _add_verify(commands: _Commands) -> None:
    about = "Compare the files on disk with the index: missing, changed, unknown. Needs index= 1."
    compared = _add(commands, "verify", _late("verify"), about)
    compared.add_argument("--quick", action="store_true", help="compare sizes only, no content")
    about = "write the SHA-256 of each good file there, for `sha256sum -c`; reads all content"
    compared.add_argument("--manifest", type=Path, metavar="FILE", help=about)
    _add_config(compared)


def _add_queue(commands: _Commands, name: str, command: _Command, about: str) -> None:
    shown = _add(commands, name, command, about)
    chosen = _allowed(queue_listing.job_id, queue_listing.ID_ALLOWED)
    to_drop = _allowed(queue_listing.job_id_to_drop, queue_listing.DROP_ALLOWED)
    done = shown.add_mutually_exclusive_group()
    done.add_argument("--json", action="store_true", help="one array, with every job")
    about = "let jobs be tried now, those that wait and those that are dead (default: all)"
    done.add_argument("--retry", nargs="?", const=queue_listing.ALL, type=chosen, metavar="ID|all", help=about)
    about = (
        "remove a job; or all that are dead; or all of a target that is not in the ini any more, also those that wait"
    )
    done.add_argument("--drop", type=to_drop, metavar="ID|all|gone", help=about)
    _add_config(shown)


def _add_service(commands: _Commands) -> None:
    kept = commands.add_parser("service", help="Install, start, stop, query or delete the service of this system.")
    verbs = kept.add_subparsers(metavar="VERB", required=True)
    installed = _add(verbs, "install", _late("service", "install"), "Install the service; it starts with the machine.")
    installed.add_argument("--account", metavar="NAME", default="", help="who it runs as")
    installed.add_argument("--firewall", action="store_true", help="let its port in (Windows); delete undoes it")
    _add_config(installed)
    started = _add(verbs, "start", _late("service", "start"), "Start it, and wait until it listens or has failed.")
    stopped = _add(
        verbs, "stop", _late("service", "stop"), "Stop it; objects under way get stop-timeout seconds to finish."
    )
    about = "Say what it does: exit code 0 running, 3 stopped, 4 not installed."
    asked = _add(verbs, "query", _late("service", "query"), about)
    about = "Stop it and remove it; the ini, the log and what was received stay."
    deleted = _add(verbs, "delete", _late("service", "delete"), about)
    reloaded = _add(commands, "reload", _late("service", "reload"), "Let the running service read its ini again.")
    for changing in (installed, started, stopped, deleted, reloaded):
        changing.add_argument("--dry-run", action="store_true", help="only print what would be done")
    for of_one in (started, stopped, asked, deleted, reloaded):
        about = "refuse when the installed service has another ini (default: take the one that is installed)"
        of_one.add_argument("--config", type=Path, metavar="PATH", help=about)


def _add_user(commands: _Commands) -> None:
    kept = commands.add_parser("user", help="Show, add or remove the users that senders may name.")
    verbs = kept.add_subparsers(metavar="VERB", required=True)
    _add_config(_add(verbs, "list", _late("user", "show"), "Show the names."))
    added = _add(verbs, "add", _late("user", "add"), "Ask for a passcode and add the user, or give the user a new one.")
    removed = _add(verbs, "remove", _late("user", "remove"), "Remove the user.")
    for of_one in (added, removed):
        of_one.add_argument("name", metavar="NAME")
        _add_config(of_one)


def _add_echo(commands: _Commands) -> None:
    asked = _add(commands, "echo", _late("echo"), "Send a C-ECHO and say whether it was answered.")
    asked.add_argument("host", metavar="HOST")
    asked.add_argument("port", type=int, metavar="PORT")
    title = _allowed(values.ae_title, values.AE_TITLE_ALLOWED)
    about = "AE title to call (default: %(default)s)"
    asked.add_argument("--called", type=title, metavar="AE", default="ANY-SCP", help=about)
    about = "AE title to call as (default: %(default)s)"
    asked.add_argument("--calling", type=title, metavar="AE", default="DCMSTORE", help=about)
    seconds = _allowed(scu.timeout, scu.TIMEOUT_ALLOWED)
    asked.add_argument("--timeout", type=seconds, metavar="SECONDS", default=10.0, help="(default: %(default)g)")


def _late(module: str, function: str = "command") -> _Command:
    """A command whose module is imported when it is given: a receiver listens sooner without the others."""

    def command(options: argparse.Namespace) -> int:
        code: int = getattr(importlib.import_module(f"dcmstore.commands.{module}"), function)(options)
        return code

    return command


def _add(commands: _Commands, name: str, command: _Command, about: str) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=about, description=about)
    added.set_defaults(command=command, if_interrupted="interrupted")
    return added


def _add_config(added: argparse.ArgumentParser) -> None:
    about = f"the settings (default: {config.FILE_NAME} in this folder)"
    added.add_argument("--config", type=Path, metavar="PATH", default=Path(config.FILE_NAME), help=about)


def _allowed(parse: Callable[[str], _Value], allowed: str) -> Callable[[str], _Value]:
    """A rule that raises ValueError, as argparse's `type=`: usage, what came, what is allowed, exit code 2."""

    def checked(value: str) -> _Value:
        try:
            return parse(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r}: allowed is {allowed}") from None

    return checked
