"""`dcmstore reindex`: root folders -> an index that agrees with them."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dcmstore import index, needs, wiring
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.index import printing

if TYPE_CHECKING:
    from dcmstore.index.database import Database
    from dcmstore.index.entries import Root
    from dcmstore.index.reindexing import Reindexed


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    needs.require_roots(configuration, are_written=False)
    index.require("dcmstore reindex")
    from dcmstore.index import reindexing  # and with it SQLAlchemy, which other commands do without
    from dcmstore.index.database import IndexTrouble

    wiring.apply_permissions(configuration.settings)
    roots = wiring.index_roots(configuration.settings)
    path = wiring.index_path_of(configuration)
    try:
        database, is_put_aside = reindexing.open_anew(str(path), roots[0].system)
        if is_put_aside:
            print(f"dcmstore: {path} was damaged; it is {path}{reindexing.DAMAGED} now", file=sys.stderr)
        try:
            return _reindex(database, roots)
        finally:
            database.close()
    except IndexTrouble as trouble:
        raise ConfigurationError(str(trouble)) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't be put aside: {reason_of(error)}; stop the receiver and try again"
        ) from None


def _reindex(database: "Database", roots: "Sequence[Root]") -> int:
    from tqdm import tqdm

    from dcmstore.index import reindexing

    with tqdm(total=reindexing.count(roots), unit="file", disable=None) as bar:

        def tell(root: "Root", path: str, error: OSError) -> None:
            shown = printing.safe(wiring.as_written(root.path_of(path)))
            bar.write(f"dcmstore: {shown}: can't be read: {reason_of(error)}", file=sys.stderr)

        try:
            done = reindexing.reindex(database, roots, bar.update, tell)
        except KeyboardInterrupt:
            bar.write("dcmstore: interrupted; the same command goes on from here", file=sys.stderr)
            return 1
    return _told(done)


def _told(done: "Reindexed") -> int:
    print(f"{done.seen} files, {done.entered} entered, {done.removed} removed that are gone")
    if done.unread:
        text = "can't be read; run this as the user that runs the receiver, or see to the disk, and do it again"
        print(f"dcmstore: {done.unread} of the folders and files {text}", file=sys.stderr)
    for root in done.kept:
        print(f"dcmstore: {root}: is empty, and what the index has of it is kept; is its disk there?", file=sys.stderr)
    return int(bool(done.kept or done.unread))
