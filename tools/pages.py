"""what a run has found -> the part of a page of docs/ that tells it, between its two markers."""

import re
from pathlib import Path


def replace_part(page: Path, begin: str, end: str, text: str) -> None:
    """Put `text` in place of what stands between the lines `begin` and `end`. Raises SystemExit without them."""
    pattern = rf"(?s)({re.escape(begin)}\n).*?({re.escape(end)})"
    written, times = re.subn(pattern, lambda match: match[1] + text + match[2], page.read_text(encoding="utf-8"))
    if times != 1:
        raise SystemExit(f"{page}: the markers {begin} and {end} are missing")
    page.write_text(written, encoding="utf-8")
