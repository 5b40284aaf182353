"""hooks -> what hinders them on this machine, in words that say what to do."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dcmstore.errors import ConfigurationError
from dcmstore.hooks import COMMAND, COPY, WEBHOOK, arguments, lines, placeholders, signing
from dcmstore.hooks.arguments import CommandLine
from dcmstore.hooks.command import found
from dcmstore.hooks.lines import Hook
from dcmstore.jobs.work import JobFailed


def mistakes(hook: Hook, event: str, roots: Iterable[Path]) -> Iterator[str]:
    """What is wrong with the line itself, so that nothing of it could ever work; a start is refused for it."""
    if hook.action.kind == COMMAND:
        yield from placeholders.problems(hook.action.target, event)
        yield from arguments.shell_signs(hook.action.target)
    if hook.action.kind == COPY:
        target = lines.folder_of(hook.action.target)
        for root in roots:
            if _is_within(target, str(root)):
                yield f"{target} lies in {root}, where objects are filed; allowed is a folder outside of it"


def lacks(hook: Hook, unwritable: Callable[[Path], str]) -> Iterator[str]:
    """What is missing on this machine, and may come yet; jobs wait for it.

    `unwritable` says why a folder can't be written, or nothing.
    """
    if hook.action.kind == COMMAND:
        try:
            found(CommandLine.parse(hook.action.target).program)
        except JobFailed as error:
            yield str(error)
    if hook.action.kind == COPY:
        target = lines.folder_of(hook.action.target)
        if not os.path.isdir(target):
            yield f"{target}: there is no such folder; make it, or see to its disk or share"
        elif problem := unwritable(Path(target)):
            yield f"{target} {problem}"


def secret_problem(hooks: Iterable[Hook], secret_file: Path | None) -> str:
    """What is wrong with the key that webhooks are signed with, or nothing."""
    if secret_file is None or not any(hook.action.kind == WEBHOOK for hook in hooks):
        return ""
    try:
        signing.key_of(secret_file)
    except ConfigurationError as error:
        return str(error)
    return ""


def notes(hook: Hook, secret_file: Path | None) -> Iterator[str]:
    """What is worth knowing of it."""
    if hook.action.kind != WEBHOOK:
        return
    url = lines.url_of(hook.action.target)
    if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        yield "http sends what is known of the patient for all to read; use https"
    if secret_file is None:
        yield "without webhook-secret its receiver can't tell who sends"


def _is_within(path: str, root: str) -> bool:
    inner, outer = (os.path.normcase(os.path.realpath(place)) for place in (path, root))
    try:
        return os.path.commonpath((inner, outer)) == outer
    except ValueError:  # on another drive
        return False
