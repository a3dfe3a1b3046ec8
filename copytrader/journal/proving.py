"""Whether a journal proves itself: its file, its schema, and its chain from where that begins."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path

from copytrader.journal import chain, schema
from copytrader.journal.chain import Finding
from copytrader.journal.rows import COLUMNS


def findings(connection: sqlite3.Connection, since: int, digests: Collection[str]) -> list[Finding]:
    """Check the file, the schema, the chain after fact `since`, and that facts with these digests are there."""
    damaged = schema.damage(connection)
    if damaged:
        return [Finding(None, f"the file is damaged: {damaged}")]
    found = [Finding(None, f"{name} is missing") for name in schema.missing_objects(connection)]
    since = max(since, base(connection)[0])
    found += chain.check(_links(connection, since), _hash_of(connection, since), since)
    return found + [_unknown(digest) for digest in digests if not _knows(connection, digest)]


def damage(connection: sqlite3.Connection, path: Path) -> str | None:
    """Return the first reason why a journal must not be written to, None where there is none."""
    return schema.damage(connection) or _foreign_wal(connection, path) or _missing(connection) or _break(connection)


def base(connection: sqlite3.Connection) -> tuple[int, str]:
    """Return the last fact that was moved into an archive and its hash; (0, "") where none was."""
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pruned'").fetchone()
    if there is None:
        return 0, chain.GENESIS
    found = connection.execute("SELECT through, hash FROM pruned ORDER BY through DESC LIMIT 1").fetchone()
    return found or (0, chain.GENESIS)


def broken(connection: sqlite3.Connection) -> Finding | None:
    """Return the first link of the chain that does not hold, None where all do."""
    since, previous = base(connection)
    return next(iter(chain.check(_links(connection, since), previous, since)), None)


def _knows(connection: sqlite3.Connection, digest: str) -> bool:
    return connection.execute("SELECT 1 FROM facts WHERE hash = ?", (digest,)).fetchone() is not None


def _unknown(digest: str) -> Finding:
    return Finding(None, f"no fact has the digest {digest}: facts were cut off or written anew")


def _foreign_wal(connection: sqlite3.Connection, path: Path) -> str | None:
    """Compare the first fact with what the file says without its WAL: a fact never changes, so they must agree.

    The file alone may be between two checkpoints and not readable: then it tells nothing.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as alone:
        bare = alone.execute("SELECT hash FROM facts WHERE seq = 1").fetchone()
        pruned = base(connection)[0] > 0
        if bare is not None and not pruned and bare[0] != _hash_of(connection, 1):
            return "the -wal file beside it belongs to another database"
    return None


def _missing(connection: sqlite3.Connection) -> str | None:
    missing = schema.missing_objects(connection)
    return f"{missing[0]} is missing" if missing else None


def _break(connection: sqlite3.Connection) -> str | None:
    finding = broken(connection)
    return finding.what if finding else None


def _links(connection: sqlite3.Connection, since: int) -> Iterator[chain.Link]:
    for row in connection.execute(COLUMNS + "FROM facts WHERE seq > ? ORDER BY seq", (since,)):
        yield row[:9], row[9], row[10]


def _hash_of(connection: sqlite3.Connection, seq: int) -> str:
    through, digest = base(connection)
    if seq == through:
        return digest
    found = connection.execute("SELECT hash FROM facts WHERE seq = ?", (seq,)).fetchone()
    return found[0] if found else chain.GENESIS
