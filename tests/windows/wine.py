"""A Windows machine under Wine: made, switched on, told what to run, and cut off from power."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.windows_bundle import WINE_ENVIRONMENT

PATIENCE = 60  # seconds that one command may take


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, its error output included, and its exit code."""

    text: str
    code: int


class Machine:
    """A Wine prefix in a folder of its own; nothing of the user's desktop is shared with it."""

    def __init__(self, prefix: Path) -> None:
        self._environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
        self._environment |= {**WINE_ENVIRONMENT, "WINEPREFIX": str(prefix), "LC_ALL": "C.UTF-8"}
        self.disk = prefix / "drive_c"

    def install(self) -> None:
        """A fresh Windows 10."""
        self.power_cut()
        shutil.rmtree(self.disk.parent, ignore_errors=True)
        self.disk.parent.mkdir(parents=True)
        self._quietly("wineserver", "-p")
        self._quietly("wineboot", "-i")
        self._quietly("wine", "winecfg", "/v", "win10")

    def power_on(self) -> None:
        """Without -p the machine would be switched off behind each command; the first command starts the services."""
        self._quietly("wineserver", "-p")
        self._quietly("wine", "cmd", "/c", "exit")

    def power_cut(self) -> None:
        """Every process ends where it stands."""
        self._quietly("wineserver", "-k", may_fail=True)  # it is off already
        self._quietly("wineserver", "-w")

    def run(self, *command: str, cwd: Path | None = None, patience: float = PATIENCE) -> Answer:
        """Run a Windows program. Its output is a pipe: a Windows Python under Wine dies of a file."""
        done = subprocess.run(
            ["wine", *command], cwd=cwd or self.disk / "windows" / "system32", env=self._environment, timeout=patience,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return Answer(done.stdout.decode("utf-8", "replace").replace("\r\n", "\n"), done.returncode)

    def path(self, path: Path) -> str:
        """How Windows calls a file on this machine's disk."""
        return "C:\\" + str(path.relative_to(self.disk)).replace("/", "\\")

    def services(self) -> str:
        """Everything that the registry says of services, as text."""
        exported = self.disk / "services.reg"
        answer = self.run("reg", "export", r"HKLM\SYSTEM\CurrentControlSet\Services", self.path(exported), "/y")
        assert answer.code == 0, answer
        text = exported.read_text(encoding="utf-16")
        exported.unlink()
        return text

    def files(self) -> set[str]:
        """Every file and folder on its disk."""
        return {str(path.relative_to(self.disk)) for path in self.disk.rglob("*")}

    def _quietly(self, *command: str, may_fail: bool = False) -> None:
        """Services inherit what the first command writes to: a pipe would never end."""
        subprocess.run(
            command, env=self._environment, timeout=PATIENCE, check=not may_fail,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
