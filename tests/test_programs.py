import os
import sys
from pathlib import Path

import pytest

from tools.programs import find_program


def program(folder: Path, name: str) -> str:
    folder.mkdir()
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="no DCMTK there to be hidden")
def test_a_program_of_the_system_is_found_behind_one_of_the_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = program(tmp_path / "environment", "storescu")
    wanted = program(tmp_path / "system", "storescu")
    monkeypatch.setattr(sys, "executable", str(Path(own).with_name("python")))
    monkeypatch.setenv("PATH", os.pathsep.join(str(Path(one).parent) for one in (own, wanted)))
    assert find_program("storescu") == wanted
    assert find_program("storescu-of-nobody") is None
