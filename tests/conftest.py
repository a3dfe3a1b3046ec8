"""What every test gets: an environment without the user's own copytrader settings, and a file to write."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

WriteConfig = Callable[..., Path]

CONFIG = """
[leader]
client_id = "1000000001"
access_token = "leader-token"

[followers.asha]
client_id = "1000000002"
access_token = "asha-token"

[followers.asha.limits]
max_order_lots = 20
"""


@pytest.fixture(autouse=True)
def _own_settings_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the configuration, tokens or colours of whoever runs it."""
    for name in os.environ:
        if name.startswith("COPYTRADER_") and name != "COPYTRADER_CAPTURES":
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COPYTRADER_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Write a valid configuration, or the text given, plus what is added; return its path."""

    def write(added: str = "", *, text: str = CONFIG, mode: int = 0o600) -> Path:
        path = tmp_path / "copytrader.toml"
        path.write_text(text + textwrap.dedent(added))
        path.chmod(mode)
        return path

    return write
