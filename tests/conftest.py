"""Fixtures that more than one test file uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import support
from tests.hosted import Running, running_in
from tools.programs import find_program

settings.register_profile("ordinary", deadline=None, max_examples=150)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A receiver in this process takes rights from its files; the files of other tests shall not depend on that."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[support.Receiver]:
    with support.running(tmp_path) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Configured, with its folders, and stopped at the end if it was started."""
    with running_in(tmp_path) as process:
        yield process


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """An interop test names the programs it needs; without them it is skipped, in CI it fails."""
    for marker in item.iter_markers("interop"):
        missing = [name for name in marker.args if find_program(name) is None]
        if missing and os.environ.get("CI"):
            pytest.fail(f"not installed: {', '.join(missing)}; CI must have it")
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
