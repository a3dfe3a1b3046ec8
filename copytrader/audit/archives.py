"""What was moved out of a journal: where it went, and whether a question reaches back to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from copytrader.journal import Journal
from copytrader.journal.rows import timestamp


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the facts up to one went, and the hash of the last of them."""

    through: int
    digest: str
    file: str


def archives(journal: Journal) -> list[Archive]:
    """Return what was moved out of a journal, oldest first."""
    there = journal.query("SELECT 1 FROM sqlite_master WHERE name = 'pruned'")[1]
    if not there:
        return []
    return [Archive(*row) for row in journal.query("SELECT through, hash, archive FROM pruned ORDER BY through")[1]]


def place(journal: Journal, archive: Archive) -> Path | None:
    """Return the path of an archive that lies beside its journal, None where it does not."""
    path = None if journal.path is None else journal.path.with_name(archive.file)
    return path if path is not None and path.exists() else None


def elsewhere(journal: Journal, since: datetime | None = None) -> str:
    """Say where facts are that a question from `since` on reaches and this journal has no more; "" where it has all."""
    moved = archives(journal)
    first = journal.query("SELECT substr(at, 1, 10) FROM facts ORDER BY seq LIMIT 1")[1] if moved else []
    if not first or (since is not None and timestamp(since) >= first[0][0]):
        return ""
    files = ", ".join(each.file for each in moved)
    return f"facts before {first[0][0]} are in {files}: `copytrader audit --journal FILE …` asks there"
