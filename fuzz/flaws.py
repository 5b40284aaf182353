"""flaws put in on purpose -> seconds until they are found: whether the fuzzer would see what it is there for.

`python -m fuzz.flaws` breaks a copy of the product, a line at a time, and lets the target look for it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fuzz import corpus

SECONDS = 60  # that a target gets


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


def find(flaw: Flaw, folder: Path) -> str:
    """Break the copy, look for the flaw, mend the copy; return in words how it went."""
    path = folder / "src/dcmstore" / flaw.module
    right = path.read_text(encoding="utf-8")
    if flaw.line not in right:
        return "NOT PUT IN: the line is another now"
    path.write_text(right.replace(flaw.line, flaw.broken, 1), encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        known = Path(name)
        corpus.unpack(flaw.target, known)
        command = [sys.executable, "-m", "fuzz.one", flaw.target, name, f"-max_total_time={SECONDS}", "-max_len=4096",
                   f"-artifact_prefix={name}/", "-timeout=60"]  # fmt: skip
        started = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder}"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        seconds = time.monotonic() - started
    path.write_text(right, encoding="utf-8")
    said = [line for line in done.stdout.splitlines() if ": " in line and line[:1].isupper()]
    if done.returncode == 0:
        return f"NOT FOUND within {SECONDS} s"
    return f"found after {seconds:4.1f} s by {flaw.target}: {said[0][:70] if said else 'an exception'}"


def main() -> int:
    root, missed = corpus.HERE.parent, 0
    with tempfile.TemporaryDirectory(prefix="dcmstore-flaws-") as name:
        folder = Path(name)
        for part in ("src", "fuzz", "docs"):
            shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "findings"))
        for flaw in FLAWS:
            words = find(flaw, folder)
            missed += not words.startswith("found")
            print(f"{flaw.about:45} {words}", flush=True)
    print(f"{len(FLAWS) - missed} passed, {missed} failed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
