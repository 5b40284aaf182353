"""flaws put in on purpose -> seconds until they are found: whether the fuzzer would see what it is there for.

`python -m fuzz.flaws` breaks a copy of the product, a line at a time, and lets the target look for it. First each
target looks at the copy as it is: one that finds something there, or does not even start, would find any flaw.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fuzz import corpus

SECONDS = 60  # that a target gets
SECONDS_UNBROKEN = 5  # and for the copy as it is, beside its corpus


@dataclass(frozen=True)
class Flaw:
    """A line of a module below src/dcmstore, what stands in its place, and the target that shall see it."""

    about: str
    module: str
    line: str
    broken: str
    target: str


FLAWS = (
    Flaw("a path may leave its root", "storage/names.py", '[<>:"/\\\\|?*', '[<>:"|?*', "names"),
    Flaw("a device of Windows is a folder's name", "storage/names.py", "        _is_device(name)\n", "        False\n",
         "names"),
    Flaw("names are cut without a suffix", "storage/names.py", 'suffix = "~" + digest.hex()[:8]', 'suffix = ""',
         "names"),
    Flaw("a PDV may be longer than its PDU", "ul/framing.py", "if not 2 <= length <= self._pdvs_left - 4:",
         "if not 2 <= length:", "framing"),
    Flaw("an item may be longer than its PDU", "ul/decoding.py", "if size > self.left:", "if False:", "framing"),
    Flaw("a second association request is accepted", "ul/association.py", "(AE_6, AA_8, AA_8, AA_8)",
         "(AE_6, AA_8, AE_6, AA_8)", "association"),
    Flaw("P-DATA-TF before an association", "ul/association.py", "(AA_1, AA_8, DT_2, AA_8)", "(DT_2, AA_8, DT_2, AA_8)",
         "association"),
    Flaw("a command set has no end", "dimse/message.py", "> MAX_COMMAND_SET:", "> MAX_COMMAND_SET * 1024:", "large"),
    Flaw("a US of any length", "dimse/command.py", "if len(raw) != _U16.size:", "if len(raw) < _U16.size:", "command"),
    Flaw("the values of nested elements count", "storage/header.py", "_NESTED = _Level(frozenset(), _ITEM)",
         "_NESTED = _Level(_WANTED, _ITEM)", "data-set"),
    Flaw("a value has no limit", "storage/header.py", "if length > MAX_VALUE:", "if False:", "large"),
    Flaw("an element cut between two pieces is lost", "storage/header.py", "self._kept = bytes(data[position:])",
         'self._kept = b""', "header"),
    Flaw("a view of the receive buffer is kept", "storage/header.py", "self.values[tag] = bytes(data[start:position])",
         "self.values[tag] = data[start:position]", "header"),
    Flaw("a wrong deflated stream is a fault", "storage/header.py", "except zlib.error as error:",
         "except KeyError as error:", "header"),
    Flaw("success before the file is whole", "storage/store.py", "files.write_all(self._descriptor, (data,))", "pass",
         "receiver"),
    Flaw("a message cut off leaves its file", "services/storage.py", "        self._incoming.discard()\n", "",
         "receiver"),
    Flaw("quotes in a log line are not escaped", "logs.py", "return json.dumps(text, ensure_ascii=not is_printable)",
         "return f'\"{text}\"'", "log"),
    Flaw("a port of any size", "settings.py", 'number(0, 65535)', 'number(0, 99999)', "ini"),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What a target did with a copy. It found something where the fuzzer put an input aside."""

    exit_code: int
    has_found: bool
    output: str
    seconds: float


_WORDS = re.compile(r"(?m)^(Violation|[\w.]*(error|Error|Exception)): .*")


def look(target: str, folder: Path, seconds: int) -> Look:
    """Let a target look at the copy in this folder for so many seconds at most."""
    with tempfile.TemporaryDirectory() as name:
        known, found = Path(name, "known"), Path(name, "found")
        known.mkdir()
        found.mkdir()
        corpus.unpack(target, known)
        command = [sys.executable, "-m", "fuzz.one", target, str(known), f"-max_total_time={seconds}", "-max_len=4096",
                   f"-artifact_prefix={found}/", "-timeout=60"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder}"}
        started = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        seconds_spent = time.monotonic() - started
        return Look(done.returncode, any(found.iterdir()), done.stdout + done.stderr, seconds_spent)


def find(flaw: Flaw, folder: Path) -> str:
    """Break the copy, look for the flaw, mend the copy; return in words how it went."""
    path = folder / "src/dcmstore" / flaw.module
    right = path.read_text(encoding="utf-8")
    if flaw.line not in right:
        return "NOT PUT IN: the line is another now"
    path.write_text(right.replace(flaw.line, flaw.broken, 1), encoding="utf-8")
    looked = look(flaw.target, folder, SECONDS)
    path.write_text(right, encoding="utf-8")
    if not looked.has_found:
        ended = f", exit code {looked.exit_code}" if looked.exit_code else f" within {SECONDS} s"
        return f"NOT FOUND{ended}"
    said = _WORDS.search(looked.output)
    return f"found after {looked.seconds:4.1f} s by {flaw.target}: {said[0][:70] if said else 'an exception'}"


def unfit(targets: Iterable[str], folder: Path) -> list[str]:
    """The targets that do not pass the copy as it is."""
    looks = {target: look(target, folder, SECONDS_UNBROKEN) for target in targets}
    for target, looked in looks.items():
        if looked.exit_code:
            print(f"{target} does not pass the unbroken copy:\n{looked.output[-3000:]}", file=sys.stderr, flush=True)
    return [target for target, looked in looks.items() if looked.exit_code]


def main() -> int:
    root, missed = corpus.HERE.parent, 0
    with tempfile.TemporaryDirectory(prefix="dcmstore-flaws-") as name:
        folder = Path(name)
        for part in ("src", "fuzz", "docs"):
            shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "findings"))
        if unfit(sorted({flaw.target for flaw in FLAWS}), folder):
            return 1
        for flaw in FLAWS:
            words = find(flaw, folder)
            missed += not words.startswith("found")
            print(f"{flaw.about:45} {words}", flush=True)
    print(f"{len(FLAWS) - missed} passed, {missed} failed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
