from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from copytrader.config.models import (
    AlertsConfig,
    CopyConfig,
    DhanConfig,
    FileConfig,
    FilterConfig,
    FollowerConfig,
    LimitsConfig,
    SizingConfig,
)

PAGE = (Path(__file__).parent.parent / "docs/configuration.md").read_text(encoding="utf-8")
SECTIONS = (DhanConfig, FollowerConfig, CopyConfig, SizingConfig, LimitsConfig, FilterConfig, AlertsConfig)
TABLES = re.split(r"(?m)^###? .*$", PAGE)[-8:]
ROW = re.compile(r"(?m)^\| `(\w+)` \| (.*?) \|")


def keys_of(section: type[BaseModel]) -> dict[str, Any]:
    return {
        name: field.default
        for name, field in section.model_fields.items()
        if not isinstance(field.default, BaseModel) and name not in ("leader", "limits", "followers")
    }


@pytest.mark.parametrize(
    ("table", "section"),
    [pytest.param(*pair, id=pair[1].__name__) for pair in zip(TABLES, (FileConfig, *SECTIONS), strict=True)],
)
def test_the_page_has_every_key_with_its_default(table: str, section: type[BaseModel]) -> None:
    rows = dict(ROW.findall(table))

    assert set(rows) == set(keys_of(section))
    for key, shown in rows.items():
        if shown.startswith("`"):
            value = shown.strip("`")
            wanted = tomllib.loads(f"x = {value}")["x"] if not re.match(r"https|wss|copytrader\.db", value) else value
            default = keys_of(section)[key]
            assert (list(default) if isinstance(default, tuple) else type(wanted)(default)) == wanted
