"""The journal: every fact once, in order, durable before anything is sent.

One append-only table holds what happened and what was decided.  The outbox is not a second
table but a question to it: which commands have no outcome yet?  There is one writer, which
holds the lock of `copytrader.lock`; readers come and go beside it and hold it up
no longer than one short query.  Other programs speak to the writer through the inbox.

This module must not decide anything, read a clock, or touch the database's files other than
through SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from copytrader.core.facts import Decision, Event, Fact
from copytrader.crash import crash_point
from copytrader.journal import chain, files, opening, proving, schema
from copytrader.journal.chain import Columns, Finding
from copytrader.journal.codec import EVENT_KINDS, CodecError, decode, encode
from copytrader.journal.errors import Errors, JournalError
from copytrader.journal.opening import connect, refuse_foreign
from copytrader.journal.rows import BY_ITSELF, COLUMNS, INSERT, Row, day_bounds, names, timestamp

Step = tuple[Event, Sequence[Decision], int | None]
"""An event, what was decided upon it, and the seq of the fact that caused it."""
Record = tuple[*Columns, str, str]
"""A row to be written: its columns, its body, its hash; SQLite takes a plain tuple quicker than a `Row`."""

_MEMORY = ":memory:"
_PAGE = 1000
_THESE = COLUMNS + "FROM facts WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"  # noqa: S608  # constants
_SEQS = "SELECT seq FROM facts WHERE "
_LEADER_ORDER = (
    "SELECT leader_order_id FROM facts WHERE correlation_id = ? AND leader_order_id IS NOT NULL ORDER BY seq LIMIT 1"
)


class Journal:
    """A journal that is open.  `path` is its real path, None in memory."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, tail: tuple[int, str], marks: files.Marks | None = None
    ) -> None:
        self.path = path
        self._marks = marks or {}
        self._connection = connection
        self._tail: tuple[int, str] | None = tail
        self._where = _MEMORY if path is None else str(path)
        self._errors = Errors(self._where)

    @classmethod
    def open(cls, path: Path | str, *, read_only: bool = False) -> Self:
        """Open a journal; for writing, create it where there is none and check all of it where there is.

        Raises JournalError with what is wrong, where, and what to do.
        """
        if str(path) == _MEMORY:
            return cls._in_memory()
        with Errors(str(path)):
            return cls._reading(Path(path)) if read_only else cls._writing(Path(path))

    def record(
        self, event: Event, decisions: Sequence[Decision] = (), cause: int | None = None, *, word: int | None = None
    ) -> tuple[int, ...]:
        """Record an event and everything decided upon it, or nothing; durable when this returns.

        Returns the event's seq, then those of its decisions, whose cause is the event.  `word` is the
        operator's word that the event is: it is marked as taken in the same commit.
        """
        return self._commit([(event, decisions, cause)], word)[0]

    def record_many(self, steps: Sequence[Step]) -> list[tuple[int, ...]]:
        """Record several events with their decisions in one commit, or nothing."""
        return self._commit(steps, None)

    def facts(
        self,
        since_seq: int = 0,
        kinds: Collection[str] | None = None,
        *,
        day: date | None = None,
        follower: str | None = None,
        leader_order_id: str | None = None,
        order_id: str | None = None,
        correlation_id: str | None = None,
        cause: int | None = None,
    ) -> Iterator[Row]:
        """Yield the facts after `since_seq` that fit everything given, in order.

        The facts are those that exist when the first is asked for.  Each page is a short query of its
        own, so that a slow consumer keeps no checkpoint waiting.
        """
        equal = {
            "follower": follower,
            "leader_order_id": leader_order_id,
            "order_id": order_id,
            "correlation_id": correlation_id,
            "cause": cause,
        }
        seqs = self._seqs(since_seq, kinds, day, {name: value for name, value in equal.items() if value is not None})
        for start in range(0, len(seqs), _PAGE):
            yield from self._page(seqs[start : start + _PAGE])

    def events(self, since_seq: int = 0) -> Iterator[Row]:
        """Yield the events alone: what a replay is fed with."""
        return self.facts(since_seq, EVENT_KINDS)

    def happened(self, since_seq: int = 0, kinds: Collection[str] | None = None) -> Iterator[tuple[Fact, datetime]]:
        """Yield the facts after `since_seq` with their times, one after the other: what a state is rebuilt from."""
        return ((row.fact, row.time) for row in self.facts(since_seq, kinds))

    def row(self, seq: int) -> Row | None:
        return next(iter(self._page([seq])), None)

    @property
    def last_seq(self) -> int:
        """The seq of the newest fact, 0 where there is none."""
        with self._errors:
            return cast(int, self._connection.execute("SELECT coalesce(max(seq), 0) FROM facts").fetchone()[0])

    def last_day(self) -> date | None:
        """Return the newest day on which something happened, None in an empty journal.

        What a copier hears by itself while it runs through the night makes no day, unless there is nothing else.
        """
        newest = "SELECT at FROM facts WHERE kind NOT IN ({}) ORDER BY seq DESC LIMIT 1"
        with self._errors:
            for left_out in (BY_ITSELF, ()):
                sql = newest.format(", ".join("?" * len(left_out)))
                found = self._connection.execute(sql, left_out).fetchone()
                if found is not None:
                    return date.fromisoformat(found[0][:10])
        return None

    def outbox(self, since_seq: int = 0) -> list[Row]:
        """Return the commands whose outcome is not recorded, oldest first; a dry run's are never sent and not here."""
        with self._errors:
            found = self._connection.execute(COLUMNS + "FROM outbox WHERE seq > ? ORDER BY seq", (since_seq,))
            return [Row._make(row) for row in found]

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return the column names and rows of one SELECT; of a journal opened read-only nothing else is possible."""
        with self._errors:
            cursor = self._connection.execute(sql, tuple(parameters))
            return tuple(column[0] for column in cursor.description or ()), cursor.fetchall()

    def verify(self, since: int = 0, digests: Collection[str] = ()) -> list[Finding]:
        """Check the file, the schema and the chain after fact `since`; no finding means that nothing was altered.

        Facts cut off at the end leave a chain that is whole: only a digest noted elsewhere shows that.
        """
        with self._errors:
            return proving.findings(self._connection, since, digests)

    def digest(self, day: date) -> str | None:
        """Return the hash of the day's last fact, which vouches for every fact up to it; None for a day without."""
        last_of_day = "SELECT hash FROM facts WHERE seq = (SELECT max(seq) FROM facts WHERE at >= ? AND at < ?)"
        with self._errors:
            found = self._connection.execute(last_of_day, day_bounds(day)).fetchone()
        return found[0] if found else None

    def backup(self, target: Path, cut: Callable[[Path], None] | None = None) -> None:
        """Copy the journal, whole, to a new private file, also while it is being written; `cut` may make less of it.

        May be called from another thread: it uses a connection of its own.
        """
        if self.path is None:
            raise JournalError("a journal in memory cannot be backed up")
        real = files.for_backup(target)
        with Errors(str(real)), files.unfinished(real) as unfinished:
            with closing(connect(self.path, "ro")) as source, closing(connect(unfinished, "rw")) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            crash_point("copied")
            if cut is not None:
                cut(unfinished)

    def checkpoint(self) -> bool:
        """Move what the WAL holds into the database now, if no reader is in the way; tell whether all was moved.

        The file of the WAL keeps its size: to overwrite it takes a commit less time than to let it grow.
        """
        with self._errors:
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {schema.BUSY_MILLISECONDS}")
        return not busy

    def require_in_place(self) -> None:
        """Raise JournalError where what is recorded would not last, because a file of the journal has lost its place.

        SQLite goes on with the files that it has open, whatever becomes of their names.  To ask costs microseconds.
        """
        with self._errors:
            files.require_in_place(self._marks)

    def words(self) -> list[tuple[int, Event]]:
        """Return the operator's words that nobody has taken, oldest first."""
        with self._errors:
            found = self._connection.execute(
                "SELECT id, kind, body FROM inbox WHERE taken IS NULL ORDER BY id"
            ).fetchall()
        return [(word, _event(kind, body, f"word {word} in the inbox")) for word, kind, body in found]

    @staticmethod
    def leave_word(path: Path | str, event: Event) -> int:
        """Leave an operator's word for whoever writes the journal, now or at its next start; return the word's id."""
        with Errors(str(path)):
            real = files.for_reading(Path(path))
            with closing(connect(real, "rw")) as connection:
                schema.settle(connection)
                connection.execute("PRAGMA synchronous = FULL")
                refuse_foreign(connection, real)
                cursor = connection.execute(
                    "INSERT INTO inbox (at, kind, body) VALUES (?, ?, ?)",
                    (timestamp(event.at), type(event).__name__, encode(event)),
                )
                return cast(int, cursor.lastrowid)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def _in_memory(cls) -> Self:
        connection = sqlite3.connect(_MEMORY, isolation_level=None)
        schema.settle(connection)
        schema.prepare(connection)
        return cls(connection, None, (0, chain.GENESIS))

    @classmethod
    def _reading(cls, path: Path) -> Self:
        real = files.for_reading(path)
        return cls(opening.for_reading(real), real, (0, chain.GENESIS))

    @classmethod
    def _writing(cls, path: Path) -> Self:
        real = files.for_writing(path)
        connection = opening.for_writing(real)
        try:
            return cls(connection, real, _last(connection), files.marks(path, real))
        except (sqlite3.Error, OSError):
            connection.close()
            raise

    def _commit(self, steps: Sequence[Step], word: int | None) -> list[tuple[int, ...]]:
        if not steps:
            return []
        with self._errors:
            tail = self._tail or _last(self._connection)
            rows, seqs = self._rows(steps, tail)
            self._tail = None
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(INSERT, rows)
                if word is not None:
                    self._take(word, seqs[0][0])
                crash_point("uncommitted", *steps[0][:1], *steps[0][1])
                self._connection.execute("COMMIT")
            finally:
                self._undo()
            self._tail = (seqs[-1][-1], rows[-1][-1])
        return seqs

    def _rows(self, steps: Sequence[Step], tail: tuple[int, str]) -> tuple[list[Record], list[tuple[int, ...]]]:
        """Return the rows that the steps become, and the seqs of each step."""
        seq, previous = tail
        rows: list[Record] = []
        seqs: list[tuple[int, ...]] = []
        leader_orders: dict[str, str] = {}
        for event, decisions, cause in steps:
            at, first = timestamp(event.at), seq + 1
            for fact in (event, *decisions):
                seq += 1
                columns = self._columns(fact, seq, cause if seq == first else first, at, leader_orders)
                body = encode(fact)
                previous = chain.chain_hash(previous, columns, body)
                rows.append((*columns, body, previous))
            seqs.append(tuple(range(first, seq + 1)))
        return rows, seqs

    def _columns(self, fact: Fact, seq: int, cause: int | None, at: str, leader_orders: dict[str, str]) -> Columns:
        """Return a fact's columns; `leader_orders` remembers, within a commit, whose copy a correlation id names."""
        follower, leader_order_id, order_id, correlation_id, reason = names(fact)
        if correlation_id and leader_order_id:
            leader_orders[correlation_id] = leader_order_id
        elif correlation_id and follower:
            leader_order_id = leader_orders.get(correlation_id) or self._leader_order(correlation_id)
        return seq, cause, at, type(fact).__name__, follower, leader_order_id, order_id, correlation_id, reason

    def _leader_order(self, correlation_id: str) -> str | None:
        found = self._connection.execute(_LEADER_ORDER, (correlation_id,)).fetchone()
        return found[0] if found else None

    def _take(self, word: int, seq: int) -> None:
        taken = self._connection.execute("UPDATE inbox SET taken = ? WHERE id = ? AND taken IS NULL", (seq, word))
        if taken.rowcount != 1:
            raise JournalError(f"{self._where}: word {word} was taken already; nothing was recorded")

    def _undo(self) -> None:
        """Roll back what was not committed, unless SQLite has already done so, as it does when the disk is full."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _seqs(
        self, since: int, kinds: Collection[str] | None, day: date | None, equal: dict[str, str | int]
    ) -> list[int]:
        clauses, parameters = ["seq > ?"], list[str | int]([since])
        for name, value in equal.items():
            clauses.append(f"{name} = ?")
            parameters.append(value)
        if kinds is not None:
            clauses.append(f"kind IN ({', '.join('?' * len(kinds))})")
            parameters += kinds
        if day is not None:
            clauses.append("at >= ? AND at < ?")
            parameters += day_bounds(day)
        with self._errors:
            found = self._connection.execute(_SEQS + " AND ".join(clauses) + " ORDER BY seq", parameters)
            return [seq for (seq,) in found]

    def _page(self, seqs: Sequence[int]) -> list[Row]:
        with self._errors:
            found = self._connection.execute(_THESE, (json.dumps(seqs),))
            return [Row._make(row) for row in found]


def _last(connection: sqlite3.Connection) -> tuple[int, str]:
    found = connection.execute("SELECT seq, hash FROM facts ORDER BY seq DESC LIMIT 1").fetchone()
    return found or (0, chain.GENESIS)


def _event(kind: str, body: str, where: str) -> Event:
    if kind not in EVENT_KINDS:
        raise JournalError(f"{where} is no event: {kind}")
    try:
        return cast(Event, decode(kind, body))
    except CodecError as error:
        raise JournalError(f"{where} cannot be read: {error}") from error
