"""Opens a journal's database: for reading, and then nothing else is possible; for writing, once it proves itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from copytrader.journal import files, proving, schema
from copytrader.journal.errors import JournalError

_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_REACHING_OUT = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zipfile", "lsdir"})
_READING_PRAGMAS = frozenset(
    {"quick_check", "integrity_check", "table_info", "table_xinfo", "index_list", "index_info"}
)
_BARE_PRAGMAS = frozenset({"application_id", "user_version", "data_version"})


def for_reading(path: Path) -> sqlite3.Connection:
    connection = _without_writing(path)
    try:
        refuse_foreign(connection, path)
        schema.show(connection)
        connection.execute("PRAGMA query_only = ON")
        # SQLite declares json_each at its first use, which the authorizer would take for a CREATE TABLE.
        connection.execute("SELECT 1 FROM json_each('[]')").fetchall()
        connection.set_authorizer(_only_reading)
    except (sqlite3.Error, JournalError):
        connection.close()
        raise
    return connection


def for_writing(path: Path) -> sqlite3.Connection:
    _inspect(path)
    connection = connect(path, "rw")
    try:
        schema.settle(connection)
        schema.make_durable(connection)
        schema.prepare(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open an existing database; the file's name is quoted, so that no `?mode=` in it is obeyed."""
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    objection = schema.objections(connection)
    if objection:
        raise JournalError(f"{path}: {objection}")


def _without_writing(path: Path) -> sqlite3.Connection:
    """Open a journal that is not written to here.

    Beside a journal SQLite makes files even to read it.  Where it cannot, as on a disk that may only be read, and
    a `-wal` holds nothing that is not in the file yet, the file alone is everything.
    """
    connection = connect(path, "ro")
    try:
        schema.settle(connection)
        schema.pragma(connection, "application_id")
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorname != "SQLITE_CANTOPEN" or files.has_wal(path):
            raise
        connection = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True, isolation_level=None)
        schema.settle(connection)
    return connection


def _inspect(path: Path) -> None:
    """Refuse a file that must not be written to, before any connection that could alter it is made.

    A connection that may write would, when it closes, move a WAL into the database even if
    the WAL belongs to another one; a reading connection never does.
    """
    with closing(connect(path, "ro")) as connection:
        schema.settle(connection)
        if schema.is_empty(connection):
            return
        refuse_foreign(connection, path)
        damage = proving.damage(connection, path)
    if damage:
        raise JournalError(f"{path} is damaged: {damage}; move it and its -wal away and restore a backup")


def _only_reading(
    action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None
) -> int:
    """Allow SELECT and looking at the schema, and nothing else: not ATTACH, not a setting, no way to another file."""
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _REACHING_OUT:
        return sqlite3.SQLITE_DENY
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        reading = first in _READING_PRAGMAS or (first in _BARE_PRAGMAS and second is None)
        return sqlite3.SQLITE_OK if reading else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY
