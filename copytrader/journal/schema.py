"""What a journal file must be: the marks by which it is known, its settings, its migrations.

`prepare` brings a new or older file to this program's schema; `objections` says why a
file is not one that this program may use.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x63747231
"""`ctr1`: tells our file from any other SQLite database (`PRAGMA application_id`)."""
VERSION = 4
"""The newest schema this program knows (`PRAGMA user_version`): the number of its migrations."""
WAL_LIMIT = 16 * 1024 * 1024
BUSY_MILLISECONDS = 5000
_PAGE_BYTES = 4096
_CACHE_KIBIBYTES = 64 * 1024

_OBJECTS = frozenset({"facts", "inbox", "outbox", "facts_are_final", "facts_are_kept"})


def settle(connection: sqlite3.Connection) -> None:
    """Apply the settings that every connection needs, reading or writing."""
    for pragma in (
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def show(connection: sqlite3.Connection) -> None:
    """Make the documented views usable for a connection that only reads.

    A journal that an older program wrote has none of its own, or others.  Some builds of SQLite count their
    JSON functions as unsafe in a view; nobody has added a function to this connection.
    """
    connection.execute("PRAGMA trusted_schema = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
    if pragma(connection, "user_version") == VERSION:
        return
    from copytrader.journal.views import VIEWS

    for name, query in VIEWS.items():
        connection.execute(f"CREATE TEMP VIEW {name} AS {query}")


def make_durable(connection: sqlite3.Connection) -> None:
    """Apply the settings by which a commit outlives a power cut.

    SQLite checkpoints by itself only when the WAL has reached its limit, so that this
    rarely falls on an order; the copier calls `Journal.checkpoint` when it is idle.  The
    leaves of the indexes that a commit changes are kept at hand.
    """
    for pragma in (
        f"cache_size = -{_CACHE_KIBIBYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"journal_size_limit = {WAL_LIMIT}",
        f"wal_autocheckpoint = {WAL_LIMIT // _PAGE_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def prepare(connection: sqlite3.Connection) -> None:
    """Create the schema, or bring an older one up to date, in one transaction."""
    if pragma(connection, "user_version") == VERSION:
        return
    from sqlite_utils import Database

    from copytrader.journal.migrations import migrations

    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def objections(connection: sqlite3.Connection) -> str | None:
    """Say why this database is none of ours, empty or too new, None where it is fine."""
    if is_empty(connection):
        return "it is empty; restore a backup if it held anything, `copytrader follow` begins it anew"
    if pragma(connection, "application_id") != APPLICATION_ID:
        return "it is the database of another program; name another file in `journal`"
    version = pragma(connection, "user_version")
    if version > VERSION:
        return f"a newer copytrader wrote it (schema {version}, this one knows {VERSION}); use that version"
    return None


def missing_objects(connection: sqlite3.Connection) -> list[str]:
    """Return the names of tables, views and triggers that somebody dropped."""
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return sorted(_OBJECTS - present)


def damage(connection: sqlite3.Connection) -> str | None:
    """Return the first complaint of SQLite's own check, None where it has none."""
    answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    return None if answer == "ok" else str(answer).replace("\n", " ")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
