"""Files that the tests of whole jobs share."""

from __future__ import annotations

from pathlib import Path

import pytest
import small


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 rows in every form of storage."""
    return small.make_rows(tmp_path_factory.mktemp("rows") / "rows.h5")
