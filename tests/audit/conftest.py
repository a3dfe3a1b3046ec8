from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.journals import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A journal in which a run of follow has begun and one instrument was read."""
    made = Writer(tmp_path / "copytrader.db")
    made.start()
    made.instrument()
    yield made
    made.journal.close()
