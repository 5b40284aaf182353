"""Where the queue is, and the queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.jobs.queue import Queue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DcmStore.queue"


@pytest.fixture
def opened(path: Path) -> Iterator[Queue]:
    made = Queue(str(path))
    yield made
    made.close()
