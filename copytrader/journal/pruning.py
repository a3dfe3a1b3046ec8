"""Moving old facts out of a journal, so that what stays still proves itself.

The facts up to one are copied into an archive, a journal of its own, before they leave.  What stays begins with the
fact after them, which still follows the hash of the last one that left: the table `pruned` keeps it.
Whoever calls this holds the lock of the journal, and has checked that nothing which stays needs what goes.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from copytrader.journal import files, opening, proving, schema
from copytrader.journal.errors import JournalError, explained
from copytrader.journal.rows import timestamp

_KEPT = "facts_are_kept"


def prune(journal: Path, through: int, archive: Path, at: datetime) -> None:
    """Take every fact up to `through` out of a journal; `archive`, a copy of the whole journal, becomes their home.

    First the archive is cut to the facts that go and proves itself, then they leave the journal in one
    commit: when anything fails before that, the journal is as it was and there is no archive.
    """
    try:
        digest = _keep_only(archive, through)
        with closing(_connect(files.for_writing(journal))) as connection:
            schema.make_durable(connection)
            _remove(connection, through, digest, at, archive.name)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except BaseException as error:
        if not _has_left(journal, through):
            archive.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise explained(str(journal), error) from error
        raise


def _has_left(journal: Path, through: int) -> bool:
    """Tell whether the facts up to `through` are, or may be, out of the journal: then the archive alone has them."""
    try:
        with closing(_connect(journal.resolve())) as connection:
            return proving.base(connection)[0] >= through
    except sqlite3.Error:
        return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = opening.connect(path, "rw")
    schema.settle(connection)
    # Answers point to the commands that they answer: within what goes and within what stays, not across.
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def _keep_only(archive: Path, through: int) -> str:
    """Cut the archive to the facts that leave the journal; return the hash of the last."""
    with closing(_connect(archive)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        trigger = _lift(connection)
        connection.execute("DELETE FROM facts WHERE seq > ?", (through,))
        connection.execute("DELETE FROM inbox WHERE taken IS NULL OR taken > ?", (through,))
        connection.execute(trigger)
        connection.execute("COMMIT")
        connection.execute("VACUUM")
        finding = proving.broken(connection)
        last = connection.execute("SELECT seq, hash FROM facts ORDER BY seq DESC LIMIT 1").fetchone()
        if finding is not None or last is None or last[0] != through or schema.damage(connection) is not None:
            raise JournalError(f"{archive}: the archive does not prove itself; nothing was removed from the journal")
        return str(last[1])


def _remove(connection: sqlite3.Connection, through: int, digest: str, at: datetime, archive: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute("SELECT hash FROM facts WHERE seq = ?", (through,)).fetchone()
        if found is None or found[0] != digest:
            raise JournalError(f"the archive {archive} is of another journal; nothing was removed")
        trigger = _lift(connection)
        connection.execute("INSERT INTO pruned VALUES (?, ?, ?, ?)", (through, digest, timestamp(at), archive))
        connection.execute("DELETE FROM inbox WHERE taken <= ?", (through,))
        connection.execute("DELETE FROM facts WHERE seq <= ?", (through,))
        connection.execute(trigger)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _lift(connection: sqlite3.Connection) -> str:
    """Drop, within a transaction, the trigger that keeps facts; return the statement that puts it back."""
    (statement,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (_KEPT,)).fetchone()
    connection.execute(f"DROP TRIGGER {_KEPT}")
    return str(statement)
