"""A tracker on a real file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies.support import Kept


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "DcmStore.queue")
    yield kept
    kept.close()
