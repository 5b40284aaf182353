"""facts -> lines: whatever a peer calls itself, an event stays one line whose values can be told apart (1 and 3)."""

import json
import re

from dcmstore import logs
from fuzz.oracle import require

_PAIR = re.compile(r' (peer|calling|uid)=("(?:[^"\\]|\\.)*"|\S+)')


def log_line(data: bytes) -> None:
    """Quoted values of a peer never break a line, forge a fact, or come out as another value."""
    values = [part.decode(codec, "surrogateescape") for part in data.split(b"\n\n") for codec in ("latin-1", "utf-8")]
    for value in values:
        facts = {"peer": value, "calling": "A", "uid": value}
        line = logs.line("association.accepted", facts)
        require(line.isprintable(), "a line that can't be printed as one", line)
        line.encode("utf-8")
        found = _PAIR.findall(line)
        require("association.accepted" + "".join(f" {key}={text}" for key, text in found) == line, "forged facts", line)
        require([key for key, _ in found] == list(facts), "forged facts", line)
        if len(value) <= logs.MAX_VALUE:
            text = found[0][1]
            require((json.loads(text) if text.startswith('"') else text) == value, "reads as another value", line)
        require(len(line) <= 14 * logs.MAX_VALUE + 200, "a line longer than its limit", len(line))
