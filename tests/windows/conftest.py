"""Collected only when asked for by name, as `make test-windows` does: these tests need a bundle and a Wine machine."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    asked = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    is_asked = any(path == HERE or HERE in path.parents for path in asked)
    is_inside = (HERE / "inside") in (collection_path, *collection_path.parents)
    return None if is_asked and (not is_inside or (HERE / "inside") in asked) else True
