"""What every simulated day needs of the process that it runs in."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _killed_processes_stay_dead() -> Iterator[None]:
    """A process killed in a simulation leaves coroutines behind; collected later, they would wake in another's loop."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
