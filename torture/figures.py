"""figures of a run -> lines for a person, and a table between markers of docs/torture.md."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tools import pages

PAGE = Path(__file__).parent.parent / "docs" / "torture.md"


def machine() -> str:
    release = platform.release().partition("-")[0]  # what follows is the distributor's
    return f"{platform.system()} {release}, Python {platform.python_version()}"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def record(part: str, columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Mapping[str, object]) -> None:
    """Put a run's figures in place of the last one's, between the markers of its part."""
    lines = [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(_shown(cell) for cell in row)} |" for row in rows),
        "",
        "; ".join(f"{name} {_shown(value)}" for name, value in notes.items()) + ".",
    ]
    start, end = f"<!-- {part}: figures of the last `make torture` -->", f"<!-- {part}: end -->"
    pages.replace_part(PAGE, start, end, "\n".join(lines) + "\n")


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
