"""a question -> how far each study is, in words: `coming`, `quiet in 40 s`, `complete: quiet`."""

import math
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import Connection, inspect

from dcmstore.studies import completeness, rows, tables
from dcmstore.studies.rows import Held, Key


def states(connection: Connection, keys: Collection[Key], wall: float, quiet: float) -> dict[Key, str]:
    """Those that are known of these studies; one that has been complete for long is not.

    For another process than the receiver: `wall` is the system's clock, for that of the receiver is its own.
    """
    if not inspect(connection).has_table(tables.studies.name):
        return {}
    return {held.key: _state(held, wall, quiet) for held in rows.find_all(connection, keys)}


def _state(held: Held, wall: float, quiet: float) -> str:
    if held.progress.is_complete:
        return f"complete: {held.reason}"
    outlook = completeness.expected(replace(held.progress, last=min(held.seen, wall)), quiet)
    words = ["reopened"] if held.openings > 1 else []
    if outlook is not None:
        words.append(f"{outlook.reason.value} in {max(math.ceil(outlook.at - wall), 0)} s")
    return ", ".join(words) or "coming"
