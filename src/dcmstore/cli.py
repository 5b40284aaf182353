"""The command `dcmstore`: words -> one of the commands -> exit code.

0: done. 1: it ran and the answer is no. 2: usage or configuration is wrong, in one line that names what.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dcmstore import __version__, config, scu, values
from dcmstore.commands import check, doctor, echo, imports, init, run, service, user, where
from dcmstore.errors import ConfigurationError
from dcmstore.journal import error_mark
from dcmstore.settings import Settings

_Value = TypeVar("_Value")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    os.umask(Settings().permissions.umask)  # until the ini has been read
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except ConfigurationError as error:
        print(f"{error_mark()}dcmstore: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print(
            "dcmstore: ended at once; what was under way is given up, and its sender was not told success",
            file=sys.stderr,
        )
        return 130
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

    def add_owner(added: argparse.ArgumentParser) -> None:
        about = "refuse when the installed service has another ini (default: take the one that is installed)"
        added.add_argument("--config", type=Path, metavar="PATH", help=about)

    made = add("init", init.command, "Make a folder with a commented DcmStore.ini and the two root folders.")
    made.add_argument("folder", type=Path, metavar="DIR")
    add_config(add("run", run.command, "Receive in the foreground until Ctrl-C."))
    add_config(add("check", check.command, "Show every setting and test what `run` will need."))
    add_config(add("doctor", doctor.command, "Look for what usually goes wrong, and send the receiver a test object."))
    placed = add("where", where.command, "Print where DICOM files would be filed, without touching anything.")
    placed.add_argument("files", nargs="+", metavar="FILE")
    add_config(placed)
    imported = add("import", imports.command, "File DICOM files that lie on disk as if they had been received.")
    imported.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    imported.add_argument("--move", action="store_true", help="remove each file once it is filed")
    imported.add_argument("--dry-run", action="store_true", help="only print where each file would be filed")
    add_config(imported)
    kept = commands.add_parser("service", help="Install, start, stop, query or delete the service of this system.")
    verbs = kept.add_subparsers(metavar="VERB", required=True)
    for verb, act, about in (
        ("install", service.install, "Install the service; it starts with the machine."),
        ("start", service.start, "Start it, and wait until it listens or has failed."),
        ("stop", service.stop, "Stop it; objects under way get stop-timeout seconds to finish."),
        ("query", service.query, "Say what it does: exit code 0 running, 3 stopped, 4 not installed."),
        ("delete", service.delete, "Stop it and remove it; the ini, the log and what was received stay."),
    ):
        one = verbs.add_parser(verb, help=about, description=about)
        one.set_defaults(command=act)
        if act is not service.query:
            one.add_argument("--dry-run", action="store_true", help="only print what would be done")
        if act is service.install:
            add_config(one)
            one.add_argument("--account", metavar="NAME", default="", help="who it runs as")
            one.add_argument("--firewall", action="store_true", help="let its port in (Windows); delete undoes it")
        else:
            add_owner(one)
    asked = add("reload", service.reload, "Let the running service read its ini again.")
    asked.add_argument("--dry-run", action="store_true", help="only print what would be done")
    add_owner(asked)
    kept = commands.add_parser("user", help="Show, add or remove the users that senders may name.")
    verbs = kept.add_subparsers(metavar="VERB", required=True)
    for verb, act, about in (
        ("list", user.show, "Show the names."),
        ("add", user.add, "Ask for a passcode and add the user, or give the user a new one."),
        ("remove", user.remove, "Remove the user."),
    ):
        one = verbs.add_parser(verb, help=about, description=about)
        one.set_defaults(command=act)
        if act is not user.show:
            one.add_argument("name", metavar="NAME")
        add_config(one)
    asked = add("echo", echo.command, "Send a C-ECHO and say whether it was answered.")
    asked.add_argument("host", metavar="HOST")
    asked.add_argument("port", type=int, metavar="PORT")
    title = _allowed(values.ae_title, values.AE_TITLE_ALLOWED)
    about = "AE title to call (default: %(default)s)"
    asked.add_argument("--called", type=title, metavar="AE", default="ANY-SCP", help=about)
    about = "AE title to call as (default: %(default)s)"
    asked.add_argument("--calling", type=title, metavar="AE", default="DCMSTORE", help=about)
    seconds = _allowed(scu.timeout, scu.TIMEOUT_ALLOWED)
    asked.add_argument("--timeout", type=seconds, metavar="SECONDS", default=10.0, help="(default: %(default)g)")
    return parser


def _allowed(parse: Callable[[str], _Value], allowed: str) -> Callable[[str], _Value]:
    """A rule that raises ValueError, as argparse's `type=`: usage, what came, what is allowed, exit code 2."""

    def checked(value: str) -> _Value:
        try:
            return parse(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r}: allowed is {allowed}") from None

    return checked
