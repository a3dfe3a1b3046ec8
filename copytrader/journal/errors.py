"""Why a journal cannot be used, in one line: what, where, what to do."""

from __future__ import annotations

import sqlite3
from types import TracebackType

from copytrader.failure import Failure


class JournalError(Failure):
    """The journal cannot be opened, read or written; nothing was half written."""


_MEANINGS = {
    "SQLITE_FULL": "the disk is full; free space, nothing was recorded",
    "SQLITE_BUSY": "another program has held it locked for too long; close that program",
    "SQLITE_LOCKED": "another program has held it locked for too long; close that program",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the file and its directory",
    "SQLITE_CANTOPEN": "it cannot be opened; check the permissions of the file and its directory",
    "SQLITE_PERM": "it cannot be opened; check the permissions of the file and its directory",
    "SQLITE_NOTADB": "it is not a database; name another file in `journal`",
    "SQLITE_CORRUPT": "it is damaged; restore a backup",
    "SQLITE_IOERR": "the disk failed; check the disk and its free space, nothing was recorded",
    "SQLITE_AUTH": "only reading is allowed here",
}


def explained(where: str, error: sqlite3.Error) -> JournalError:
    """Return what an error of SQLite means for the user."""
    name, said = getattr(error, "sqlite_errorname", "") or "", str(error).partition("\n")[0]
    for prefix, meaning in _MEANINGS.items():
        if name.startswith(prefix):
            return JournalError(f"{where}: {meaning} ({said})")
    return JournalError(f"{where}: {said}")


class Errors:
    """A context that turns what SQLite says into one line for the user."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise JournalError(f"{self._where}: {_conflict(error)}; nothing was recorded") from error
        if isinstance(error, sqlite3.Error):
            raise explained(self._where, error) from error
        if isinstance(error, OverflowError):
            raise JournalError(f"{self._where}: it has no number as large as one that was asked for") from error
        if isinstance(error, OSError):
            raise JournalError(
                f"{error.filename or self._where}: {error.strerror}; check the path and its permissions"
            ) from error


def _conflict(error: sqlite3.IntegrityError) -> str:
    if error.sqlite_errorname == "SQLITE_CONSTRAINT_PRIMARYKEY":
        return "another process has written to it; stop one of the two"
    if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
        return "the cause of a fact is not in it"
    return str(error)
