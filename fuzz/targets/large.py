"""pattern -> input of up to 256 kB -> every other target: time and memory at length (invariants 5 and 6)."""

import time

from fuzz.oracle import require
from fuzz.targets import headers, logging, messages, naming, settings, upper_layer

LONGEST = 256 * 1024  # bytes
# CPU seconds for LONGEST: what is linear takes a tenth of that, checks included; what is quadratic takes minutes
MOST_SECONDS = 20.0
CHECKS = (
    upper_layer.framing,
    upper_layer.association,
    messages.command_set,
    messages.message,
    headers.data_set_head,
    headers.file,
    naming.place,
    settings.ini,
    settings.presentation_contexts,
    logging.log_line,
)
BETWEEN = b"\n\r\n"


def large(data: bytes) -> None:
    """What stands in the middle of an input is repeated until it is long; no check takes long over it."""
    if len(data) < 2:
        return
    check, rest = CHECKS[data[0] % len(CHECKS)], data[1:]
    before, _, rest = rest.partition(BETWEEN)
    unit, _, after = rest.partition(BETWEEN)
    room = LONGEST - len(before) - len(after)
    stretched = before + unit * (room // len(unit) if unit else 0) + after
    started = time.process_time()
    check(stretched)
    seconds = time.process_time() - started
    require(seconds < MOST_SECONDS, "takes too long", check.__name__, f"{seconds:.1f} s")
