"""One process at a time in a folder, and nobody waits for ever."""

import os
import re
from pathlib import Path

import pytest

from dcmstore import alone
from dcmstore.alone import NotAlone


def test_a_folder_is_held_by_one_until_he_lets_go(tmp_path: Path) -> None:
    told = re.escape(f"another receiver works with the folder {tmp_path}, ")
    with alone.held(tmp_path), pytest.raises(NotAlone, match=told), alone.held(tmp_path):
        pytest.fail("two have it")
    with alone.held(tmp_path):
        pass


@pytest.mark.skipif(os.name == "nt", reason="nobody waits there")
def test_a_turn_that_does_not_come_is_an_error_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "PATIENCE", 0.1)
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    told = "another program has locked it"
    with alone.in_turn(tmp_path), pytest.raises(OSError, match=told), alone.in_turn(tmp_path):
        pytest.fail("two have it")
    with alone.in_turn(tmp_path):
        pass
    assert not before or len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.skipif(os.name == "nt", reason="there it is a name that is held")
def test_a_folder_that_can_not_be_locked_keeps_nobody_out(tmp_path: Path) -> None:
    for enter in (alone.held, alone.in_turn):
        with enter(tmp_path / "gone"), enter(tmp_path / "gone"):
            pass
