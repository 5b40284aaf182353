"""A root folder, and where its index is."""

from pathlib import Path

import pytest

from dcmstore.index.entries import Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "images"
    folder.mkdir()
    return Root(str(folder), str(folder))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DcmStore.index"
