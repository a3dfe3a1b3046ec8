"""A user's own SELECT, on a journal that is open for reading alone.

The file is opened read-only and an authorizer lets nothing but reading pass; here a result becomes
rows that any form can show, and a mistake becomes one line.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, JournalError


def select(journal: Journal, sql: str) -> tuple[list[str], list[dict[str, object]]]:
    """Run one SELECT; return its columns and its rows.  Raises Failure with what SQLite says of a mistake."""
    if not sql.strip():
        raise Failure("no query was given", code=ExitCode.USAGE)
    try:
        names, rows = journal.query(sql)
    except JournalError as error:
        raise Failure(_without_path(journal, str(error)), code=ExitCode.USAGE) from None
    except (sqlite3.Warning, ValueError) as error:
        raise Failure(f"not one SELECT: {error}", code=ExitCode.USAGE) from None
    unique = _unique(names)
    return unique, [dict(zip(unique, map(_plain, row), strict=True)) for row in rows]


def _without_path(journal: Journal, text: str) -> str:
    return text.removeprefix(f"{journal.path}: ")


def _unique(names: Sequence[str]) -> list[str]:
    """Number the columns that have one name, so that none hides another."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    return unique


def _plain(value: Any) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
