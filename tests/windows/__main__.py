"""the bundle -> its scripts under Wine, and the ordinary tests under its Python: `make test-windows`.

Both run at once, on a machine each. Where Wine can't be installed, this says so and ends well; in CI it fails.
"""

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

from tests.windows.wine import Machine
from tools import windows_bundle

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build" / "windows"

# The ordinary tests that touch files, names, sockets or the settings of the system.
ORDINARY = (
    "config", "examine", "files", "filing", "filing_original", "importing", "incoming", "logs", "names", "scu",
    "server", "store",
)  # fmt: skip


def main() -> int:
    if subprocess.run([PROJECT / "tools" / "install-wine"], check=False).returncode:
        print("tests.windows: not run, for there is no Wine", file=sys.stderr)
        return int("CI" in os.environ)
    bundle = windows_bundle.build(BUILD / "dist")
    inner: list[int] = []
    thread = threading.Thread(target=lambda: inner.append(run_under_windows(bundle, BUILD / "under-windows.txt")))
    thread.start()
    outer = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "tests/windows"], cwd=PROJECT, check=False
    )
    thread.join()
    print((BUILD / "under-windows.txt").read_text(encoding="utf-8"))
    return int(outer.returncode != 0 or inner != [0])


def run_under_windows(bundle: Path, output: Path) -> int:
    """Run the ordinary tests, and those in `inside`, with the interpreter and the modules of the bundle."""
    machine = Machine(BUILD / "wine-tests")
    machine.install()
    try:
        place = machine.disk / "checked"
        shutil.copytree(bundle / "bin", place / "bin")
        windows_bundle.download_wheels(
            PROJECT / "tests" / "windows" / "requirements.txt", windows_bundle.DOWNLOADS / "tests"
        )
        for wheel in [
            *windows_bundle.DOWNLOADS.glob("tests/*.whl"),
            *windows_bundle.DOWNLOADS.glob("bundle/pydicom-*.whl"),
        ]:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(place / "site")
        shutil.copytree(PROJECT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(PROJECT / "pyproject.toml", place / "pyproject.toml")
        # pydicom once more, for its test data; the bundle's modules come behind.
        (place / "bin" / "python313._pth").write_text("..\n..\\site\n" + windows_bundle.SEARCH_PATH, encoding="ascii")
        tests = [f"tests\\test_{name}.py" for name in ORDINARY]
        answer = machine.run(
            machine.path(place / "bin" / windows_bundle.PROGRAM), "-m", "pytest", "-p", "no:cacheprovider",
            "-p", "tests.windows.inside.plugin", "--color=no", *tests, "tests\\windows\\inside",
            cwd=place, patience=600,
        )  # fmt: skip
        output.write_text(answer.text, encoding="utf-8")
        return answer.code
    finally:
        machine.power_cut()


if __name__ == "__main__":
    sys.exit(main())
