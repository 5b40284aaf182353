"""the bundle -> its scripts under Wine, and the ordinary tests under its Python: `make test-windows`.

Both run at once, on a machine each; what they need is installed first. Where Wine can't be, this says so and ends well;
in CI it fails.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.windows.wine import Answer, Machine
from tools import windows_bundle

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build" / "windows"

# The ordinary tests that touch files, names, sockets or the settings of the system.
ORDINARY = (
    "config", "examine", "files", "filing", "filing_original", "importing", "incoming", "logs", "names", "scu",
    "server", "store",
)  # fmt: skip


PATIENCE = 900  # seconds for all of them


def main() -> int:
    if subprocess.run([PROJECT / "tools" / "install-wine"], check=False).returncode:
        print("tests.windows: not run, for there is no Wine", file=sys.stderr)
        return int(bool(os.environ.get("CI")))
    subprocess.run([PROJECT / "tools" / "install-peers"], check=True)
    bundle = windows_bundle.build(BUILD / "dist")
    print("tests.windows: running; what they say comes at the end, in about five minutes", flush=True)
    with ThreadPoolExecutor() as pool:
        inside = pool.submit(run_under_windows, bundle)
        outside = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:randomly", "--color=no", "tests/windows"],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False,
        )  # fmt: skip
    answers = {
        "the scripts under Wine": Answer(outside.stdout, outside.returncode),
        "the tests under Windows' Python": inside.result(),
    }
    for what, answer in answers.items():
        print(f"--- {what}\n{answer.text}")
    for what, answer in answers.items():
        *_, last = answer.text.strip().split("\n")
        print(f"{'FAILED' if answer.code else 'passed'}: {what}: {last}")
    return int(any(answer.code for answer in answers.values()))


def run_under_windows(bundle: Path) -> Answer:
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
        for name in ("tests", "tools"):
            shutil.copytree(PROJECT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(PROJECT / "pyproject.toml", place / "pyproject.toml")
        # pydicom once more, for its test data; the bundle's modules come behind.
        (place / "bin" / "python313._pth").write_text("..\n..\\site\n" + windows_bundle.SEARCH_PATH, encoding="ascii")
        tests = [f"tests\\test_{name}.py" for name in ORDINARY]
        return machine.run(
            machine.path(place / "bin" / windows_bundle.PROGRAM), "-m", "pytest", "-p", "no:cacheprovider",
            "-p", "tests.windows.inside.plugin", "--color=no", *tests, "tests\\windows\\inside",
            cwd=place, patience=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return Answer(f"{(error.stdout or b'').decode('utf-8', 'replace')}\nnot at its end after {PATIENCE} seconds", 1)
    finally:
        machine.power_cut()


if __name__ == "__main__":
    sys.exit(main())
