"""a folder -> a receiver in a process of its own, with its settings, that can be killed."""

import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcmstore.storage.filing import Root

START_LIMIT = 30.0  # seconds
_INI = "DcmStore.ini"


def prepare(folder: Path, roots: Mapping[Root, Path], **keys: object) -> None:
    """An ini with these root folders and keys (`_` stands for `-`), and a free port each time."""
    subprocess.run([sys.executable, "-m", "dcmstore", "init", "."], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ini = folder / _INI
    text = ini.read_text()
    values = {"port": 0, "bind": "127.0.0.1", "min-free-space": 0, "logfile": 0}
    values |= {name.replace("_", "-"): value for name, value in keys.items()}
    values |= {root.value: path for root, path in roots.items()}
    for name, value in values.items():
        text, times = re.subn(rf"(?m)^{name}=.*$", f"{name}= {value}", text)
        assert times == 1, name
    ini.write_text(text)
    for path in roots.values():
        path.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Running:
    """A receiver that listens."""

    process: subprocess.Popen[str]
    port: int
    reader: threading.Thread

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


def launch(folder: Path, flaw: str = "") -> subprocess.Popen[str]:
    """Start a receiver, with a flaw if one is named (flawed.py), and do not wait for it."""
    program = ["torture.flawed", flaw] if flaw else ["dcmstore"]
    command = [sys.executable, "-m", *program, "run", "--config", str(folder / _INI)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")


def start(folder: Path, flaw: str = "") -> Running:
    """Start a receiver and wait until it listens."""
    process = launch(folder, flaw)
    assert process.stderr is not None
    lines = []
    watchdog = threading.Timer(START_LIMIT, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"receiver\.listening .*\bport=(\d+)", line):
                reader = threading.Thread(target=process.stderr.read, daemon=True)
                reader.start()
                return Running(process, int(match[1]), reader)
    finally:
        watchdog.cancel()
    process.wait()
    raise SystemExit("the receiver did not start:\n" + "".join(lines))
