"""`dcmstore verify`: disk and index -> what is missing, changed or unknown, a line each, and a manifest of the rest."""

import argparse
import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dcmstore import index, needs, wiring
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.index import printing
from dcmstore.storage import examine

if TYPE_CHECKING:
    from dcmstore.index.comparing import Comparison, Finding
    from dcmstore.index.database import Database
    from dcmstore.index.entries import Root

_Enter: TypeAlias = Callable[[str, str], None]  # takes a path, and the digest of the file


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    needs.require_roots(configuration, are_written=False)
    index.require("dcmstore verify")
    needs.note_idle_index(configuration)
    wiring.apply_permissions(configuration.settings)
    roots = wiring.index_roots(configuration.settings)
    with wiring.index_opened(configuration) as database, _manifest(options.manifest) as enter:
        return _verify(database, roots, enter, is_quick=options.quick)


def _verify(database: "Database", roots: "Sequence[Root]", enter: _Enter | None, *, is_quick: bool) -> int:
    from tqdm import tqdm

    from dcmstore.index.comparing import Comparer

    totals = database.totals()
    for name in totals.keys() - {root.name for root in roots}:
        text = f"{totals[name][0]} files of it are in the index, but the ini names it no more: it is not looked at"
        print(f"dcmstore: {printing.safe(name)}: {text}", file=sys.stderr)
    for root in roots:
        if root.name in totals and examine.is_away(root.system, root.without):
            print(f"dcmstore: {root.name}: is empty; is its disk there?", file=sys.stderr)
    size = sum(totals[root.name][1] for root in roots if root.name in totals)
    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        comparer = Comparer(database, bar.update, is_quick, enter)
        for finding in comparer.compare(roots):
            bar.write(_line(finding))
    print(_summary(comparer.comparison))
    return int(bool(comparer.comparison.findings))


def _line(finding: "Finding") -> str:
    reason = f": {finding.reason}" if finding.reason else ""
    return printing.safe(f"{finding.verdict.value:10}  {wiring.as_written(finding.path)}{reason}")


def _summary(comparison: "Comparison") -> str:
    parts = [f"{comparison.good} files as they were, {comparison.findings} not"]
    if comparison.just_now:
        parts.append(f"{comparison.just_now} that are coming just now")
    if comparison.others:
        parts.append(f"{comparison.others} that are no objects")
    return ", ".join(parts)


# --- the manifest --------------------------------------------------------------------------------


@contextlib.contextmanager
def _manifest(path: Path | None) -> Iterator[_Enter | None]:
    """What enters a path and a digest. The manifest has its name when it is whole.

    A device, pipe or link is written to as it is.
    """
    if path is None:
        yield None
        return
    is_plain = not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode)
    unfinished = path.with_name(path.name + ".new") if is_plain else path
    with contextlib.ExitStack() as resources:
        with _told(path):
            file = open(unfinished, "w", encoding="utf-8", newline="\n")  # noqa: SIM115  closed below
        if is_plain:
            resources.callback(_quietly, unfinished.unlink)
        resources.callback(_quietly, file.close)

        def enter(stored: str, digest: str) -> None:
            with _told(path):
                file.write(_checked_line(stored, digest))

        yield enter
        with _told(path):
            file.close()
            if is_plain:
                os.replace(unfinished, path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Around what is done to the manifest, and to nothing else: standard output has its own faults."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"--manifest {path}: can't be written: {reason_of(error)}") from None


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):  # it is done already, or was told
        call()


def _checked_line(path: str, digest: str) -> str:
    """As sha256sum writes it, for `sha256sum -c` to read."""
    name = wiring.as_written(path)
    if os.name == "nt":
        name = Path(name).as_posix()
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "" if escaped == name else "\\"
    return f"{mark}{digest}  {escaped}\n"
