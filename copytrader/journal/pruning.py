"""Moving old facts out of a journal, so that what stays still proves itself.

The facts up to one are copied into an archive, a journal of its own, before they leave.  What stays begins with the
fact after them, which still follows the hash of the last one that left: the table `pruned` keeps it.
Whoever calls this holds the lock of the journal, and has checked that nothing which stays needs what goes.

An archive gets its name when it is whole, and stays whatever happens then: it may be the only home of what is in it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from copytrader.crash import crash_point
from copytrader.journal import files, opening, proving, schema
from copytrader.journal.errors import Errors, JournalError, explained
from copytrader.journal.rows import timestamp

_KEPT = "facts_are_kept"


class _Extent(NamedTuple):
    """Which facts these are: the first, how many, and the hash of the last, which vouches for all before it."""

    first: int
    number: int
    digest: str


def keep_only(copy: Path, through: int) -> None:
    """Cut a copy of a journal to the facts that are to leave it."""
    with closing(_connect(copy)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        trigger = _lift(connection)
        connection.execute("DELETE FROM facts WHERE seq > ?", (through,))
        connection.execute("DELETE FROM inbox WHERE taken IS NULL OR taken > ?", (through,))
        connection.execute(trigger)
        connection.execute("COMMIT")
        crash_point("cut")
        connection.execute("VACUUM")


def prune(journal: Path, through: int, archive: Path, at: datetime) -> None:
    """Take every fact up to `through` out of a journal, in one commit, once `archive` proves that it has all of them.

    When anything fails before that, the journal is as it was.
    """
    crash_point("archived")
    extent = _proven(archive, through)
    try:
        with closing(_connect(files.for_writing(journal))) as connection:
            schema.make_durable(connection)
            _remove(connection, through, extent, at, archive.name)
    except sqlite3.Error as error:
        stays = f"{archive} is whole and stays: the same prune goes on from there"
        raise JournalError(*explained(str(journal), error).lines, stays) from error
    crash_point("moved")


def shrink(journal: Path) -> int:
    """Give back the room of what has left a journal; return how many bytes that was.

    It finds what an earlier prune had no time or no room to give back, too.
    """
    try:
        with closing(_connect(files.for_writing(journal))) as connection:
            before = _size(connection)
            if schema.pragma(connection, "freelist_count"):
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return before - _size(connection)
    except sqlite3.Error as error:
        why = f"{journal} could not be made smaller ({error})"
        raise JournalError(f"{why}; make room and prune again, nothing is missing") from error


def _size(connection: sqlite3.Connection) -> int:
    return int(schema.pragma(connection, "page_count")) * int(schema.pragma(connection, "page_size"))


def _connect(path: Path) -> sqlite3.Connection:
    connection = opening.connect(path, "rw")
    schema.settle(connection)
    # Answers point to the commands that they answer: within what goes and within what stays, not across.
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def _proven(archive: Path, through: int) -> _Extent:
    """Return which facts an archive has; raise unless it ends with `through` and proves itself."""
    with Errors(str(archive)), closing(opening.connect(archive, "ro")) as connection:
        files.sync(archive.parent)  # who gave it its name may have been killed before that was on the disk
        finding = proving.broken(connection)
        extent = _extent(connection, through)
        over = connection.execute("SELECT 1 FROM facts WHERE seq > ?", (through,)).fetchone()
        if finding is not None or extent is None or over is not None or schema.damage(connection) is not None:
            raise JournalError(f"{archive}: the archive does not prove itself; nothing was removed from the journal")
        return extent


def _extent(connection: sqlite3.Connection, through: int) -> _Extent | None:
    """Return which facts up to `through` there are, None where that one is not."""
    sql = "SELECT min(seq), count(*), (SELECT hash FROM facts WHERE seq = ?) FROM facts WHERE seq <= ?"
    found = _Extent(*connection.execute(sql, (through, through)).fetchone())
    return found if found.digest else None


def _remove(connection: sqlite3.Connection, through: int, archived: _Extent, at: datetime, archive: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _extent(connection, through) != archived:
            raise JournalError(f"the archive {archive} is of another journal; nothing was removed")
        trigger = _lift(connection)
        connection.execute("INSERT INTO pruned VALUES (?, ?, ?, ?)", (through, archived.digest, timestamp(at), archive))
        connection.execute("DELETE FROM inbox WHERE taken <= ?", (through,))
        connection.execute("DELETE FROM facts WHERE seq <= ?", (through,))
        connection.execute(trigger)
        crash_point("unmoved")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _lift(connection: sqlite3.Connection) -> str:
    """Drop, within a transaction, the trigger that keeps facts; return the statement that puts it back."""
    (statement,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (_KEPT,)).fetchone()
    connection.execute(f"DROP TRIGGER {_KEPT}")
    return str(statement)
