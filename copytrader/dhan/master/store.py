"""The instruments in a SQLite file of their own: kept up to date, looked up and searched.

Only what changed is written.  A file that looks cut off changes nothing, and neither does one
that cannot be read to its end.  What the cells of the file mean is for `file` to say.
"""

from __future__ import annotations

import asyncio
import csv
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from copytrader.core.model import Instrument, Security
from copytrader.dhan.master.download import Progress, download
from copytrader.dhan.master.errors import MasterError
from copytrader.dhan.master.file import Row, plain, read_master
from copytrader.failure import ExitCode

SHRUNK_TO = 0.5
"""A file with fewer rows than this share of the last one's is taken for a broken one."""
MAX_PROBLEMS = 100
MAX_CHANGES = 1000
_REPORT_EVERY = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """A lot size, tick or freeze quantity that is not what it was."""

    security: Security
    symbol: str
    what: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.  `problems`, `changes` and `doubles` are bounded; `problem_count` and the like are not.

    `doubles` are instruments that the file has twice with different sizes.
    """

    rows: int
    added: int
    changed: int
    removed: int
    problem_count: int
    problems: tuple[str, ...]
    changes: tuple[Change, ...]
    doubles: tuple[str, ...] = ()


_Sizes = tuple[str | int | None, str | int | None, str | int | None]
_COLUMNS = (
    "exchange_segment",
    "security_id",
    "symbol",
    "name",
    "underlying",
    "instrument_type",
    "lot_size",
    "tick_size",
    "freeze_quantity",
    "multiplier",
    "expiry",
    "strike",
    "option_type",
    "lower_limit",
    "upper_limit",
)
_NAMES = ", ".join(_COLUMNS)
_LOT = _COLUMNS.index("lot_size")
_SIZE_NAMES = ("lot size", "tick", "freeze quantity")
_SCHEMA = """
create table if not exists instrument (
    exchange_segment text not null,
    security_id text not null,
    symbol text not null,
    name text not null,
    underlying text not null,
    instrument_type text not null,
    lot_size integer not null,
    tick_size text not null,
    freeze_quantity integer not null,
    multiplier integer,
    expiry text,
    strike text,
    option_type text not null,
    lower_limit text,
    upper_limit text,
    primary key (exchange_segment, security_id)
) strict, without rowid
"""
_LAST_SYNC = """
create table if not exists last_sync (
    id integer primary key check (id = 1),
    source text not null,
    master_date text not null,
    rows integer not null
) strict
"""


class InstrumentStore:
    """The instruments in their SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            self._db = self._connect()
            self._db.execute(_SCHEMA)
            self._db.execute(_LAST_SYNC)
        except OSError as error:
            raise MasterError(f"{path} cannot be used: {error.strerror}; check its permissions") from None
        except sqlite3.Error as error:
            raise _refused(path, error, "delete the file and sync again") from None

    def close(self) -> None:
        self._db.close()

    async def sync(self, source: str | Path, today: date, progress: Progress | None = None) -> SyncReport:
        """Brings the instruments up to date from an address or a file, without holding up the loop."""
        name = str(source)
        if "://" not in name:
            return await asyncio.to_thread(self.load, Path(name), today, name, progress)
        with tempfile.TemporaryDirectory(prefix="copytrader-") as folder:
            path = Path(folder) / "instruments.csv"
            await download(name, path, progress)
            return await asyncio.to_thread(self.load, path, today, name, progress)

    def load(self, path: Path, today: date, source: str = "", progress: Progress | None = None) -> SyncReport:
        """Brings the instruments up to date from a file: all of it, or nothing and a `MasterError`.

        Works on a connection of its own, so that `get` answers from the old rows meanwhile.
        """
        problems = _Problems()
        try:
            with (
                path.open(encoding="utf-8-sig", newline="") as file,
                closing(self._connect()) as db,
                _transaction(db),
            ):
                report = _take_over(db, _counted(read_master(file, problems.add), progress), problems)
                synced = (source or str(path), today.isoformat(), report.rows)
                db.execute("insert or replace into last_sync values (1, ?, ?, ?)", synced)
                return report
        except MasterError as error:
            raise MasterError(f"{source or path}: {error}") from None
        except OSError as error:
            why = f"{path} cannot be read: {error.strerror}; name another with --from"
            raise MasterError(why, code=ExitCode.USAGE) from None
        except (UnicodeDecodeError, csv.Error):
            raise MasterError(f"{path}: not Dhan's instrument file, or a damaged one; the old ones are kept") from None
        except sqlite3.Error as error:
            raise _refused(self._path, error, "the old ones are kept") from None

    def get(self, security: Security) -> Instrument | None:
        row = self._db.execute(
            f"{_SELECT} where exchange_segment = ? and security_id = ?",
            (security.exchange_segment, security.security_id),
        ).fetchone()
        return None if row is None else _instrument(row)

    def search(self, text: str, limit: int = 20) -> tuple[Instrument, ...]:
        """Instruments in whose symbol, name, underlying or id every word of the text occurs, exact ones first."""
        words = text.split()
        if not words:
            return ()
        rows = self._db.execute(
            f"{_SELECT} where {' and '.join([_OCCURS] * len(words))} order by symbol <> ?, underlying <> ?, "
            "coalesce(expiry, ''), symbol, exchange_segment limit ?",
            (*(_like(word) for word in words), text.strip().upper(), text.strip().upper(), limit),
        ).fetchall()
        return tuple(_instrument(row) for row in rows)

    def find(self, text: str) -> tuple[Instrument, ...]:
        """Instruments of which every word says something exact: NIFTY 29 SEP 29150 CE, 35084, or a trading symbol."""
        words = [_ALIKE.get(word, word) for word in text.upper().replace(",", " ").split()]
        named = [_DAY.sub("-", word) for word in words if not _BESIDE_THE_NAME.fullmatch(word)]
        where = " and ".join([_OCCURS] * len(named)) or "1"
        rows = self._db.execute(
            f"{_SELECT} where {where} order by underlying, coalesce(expiry, ''), strike + 0.0, option_type",
            [_like(word) for word in named],
        )
        found = (_instrument(row) for row in rows)
        return tuple(instrument for instrument in found if words and set(words) <= _words_of(instrument))

    def has_underlying(self, name: str) -> bool:
        """Whether any instrument is of this underlying, or stands for itself under this symbol."""
        query = "select exists(select 1 from instrument where coalesce(nullif(underlying, ''), symbol) = ?)"
        return bool(self._db.execute(query, (name,)).fetchone()[0])

    def count(self) -> int:
        return _scalar(self._db, "select count(*) from instrument")

    def synced_on(self) -> date | None:
        """The day of the last sync, None before the first."""
        row = self._db.execute("select master_date from last_sync").fetchone()
        return None if row is None else date.fromisoformat(row[0])

    def is_fresh(self, today: date, source: str | Path) -> bool:
        """Whether the instruments were read today from this source."""
        row = self._db.execute("select source, master_date from last_sync").fetchone()
        return bool(row == (str(source), today.isoformat()))

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        return db


def _refused(path: Path, error: sqlite3.Error, remedy: str) -> MasterError:
    """Return what an error of SQLite means for the user: a disk, which has to be mended, or the file."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return MasterError(f"{path}: the disk is full; free space ({error})")
    if name.startswith("SQLITE_IOERR"):
        return MasterError(f"{path}: the disk failed; check the disk and its free space ({error})")
    return MasterError(f"{path}: {error}; {remedy}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")


class _Stored:
    """What the store holds before a sync, compactly: per instrument a hash of its row and its sizes.

    An instrument leaves when the file names it again; what stays to the end is gone.  What the file has named
    before is kept too: of two rows for one instrument the last counts, and that is said where their sizes differ.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._same: dict[_Sizes, _Sizes] = {}
        self._read: dict[str, _Sizes] = {}
        self.rows: dict[str, tuple[int, _Sizes]] = {}
        for row in db.execute(f"select {_NAMES} from instrument"):  # noqa: S608  # our own names
            sizes = _sizes(row)
            self.rows[_key(row)] = (hash(row), self._same.setdefault(sizes, sizes))
        self.count = len(self.rows)
        self.changes: list[Change] = []
        self.doubles: list[str] = []

    def differing(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows that are new or not as stored."""
        for row in rows:
            key = _key(row)
            stored = self.rows.pop(key, None)
            sizes = _sizes(row)
            before = self._read.setdefault(key, self._same.setdefault(sizes, sizes))
            if before != sizes:
                self._note_double(row, before)
                self._read[key] = sizes
            if stored is None:
                yield row
            elif stored[0] != hash(row):
                self._note(row, stored[1])
                yield row

    def _note_double(self, row: Row, before: _Sizes) -> None:
        sizes = zip(_SIZE_NAMES, before, _sizes(row), strict=True)
        told = ", ".join(f"{what} {old} and {new}" for what, old, new in sizes if old != new)
        if len(self.doubles) < MAX_CHANGES:
            self.doubles.append(f"{row[2]} ({_key(row)}) is in the file twice, with {told}: the last one counts")

    def _note(self, row: Row, old: _Sizes) -> None:
        for what, before, now in zip(_SIZE_NAMES, old, _sizes(row), strict=True):
            if before != now and len(self.changes) < MAX_CHANGES:
                security = Security(str(row[0]), str(row[1]))
                self.changes.append(Change(security, str(row[2]), what, str(before), str(now)))


def _key(row: Row) -> str:
    return f"{row[0]} {row[1]}"


def _sizes(row: Row) -> _Sizes:
    return row[_LOT], row[_LOT + 1], row[_LOT + 2]


def _take_over(db: sqlite3.Connection, rows: Iterator[Row], problems: _Problems) -> SyncReport:
    """Makes the stored rows equal to the file's, touching only those that differ."""
    stored = _Stored(db)
    written = db.executemany(_WRITE, stored.differing(rows)).rowcount
    removed = len(stored.rows)
    db.executemany(_REMOVE, (tuple(key.split(" ")) for key in stored.rows))
    count = _scalar(db, "select count(*) from instrument")
    _refuse_shrunk(count, stored.count)
    added = count - (stored.count - removed)
    return SyncReport(
        count,
        added,
        max(written, 0) - added,
        removed,
        problems.count,
        tuple(problems.lines),
        tuple(stored.changes),
        tuple(stored.doubles),
    )


def _refuse_shrunk(rows: int, before: int) -> None:
    if rows == 0:
        raise MasterError("the file holds no instrument that can be read; the old ones are kept")
    if rows < before * SHRUNK_TO:
        raise MasterError(
            f"the file holds {rows:,} instruments, the last one held {before:,}: "
            "it looks cut off, the old ones are kept"
        )


def _scalar(db: sqlite3.Connection, query: str) -> int:
    value: int = db.execute(query).fetchone()[0]
    return value


_SELECT = f"select {_NAMES}, (select master_date from last_sync) from instrument"  # noqa: S608  # our own names
_OCCURS = "(symbol || ' ' || name || ' ' || underlying || ' ' || security_id) like ? escape '\\'"
_WRITE = f"insert or replace into instrument values ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # marks only
_REMOVE = "delete from instrument where exchange_segment = ? and security_id = ?"


def _instrument(row: tuple[object, ...]) -> Instrument:
    value = dict(zip((*_COLUMNS, "master_date"), row, strict=True))
    return Instrument(
        security=Security(str(value["exchange_segment"]), str(value["security_id"])),
        symbol=str(value["symbol"]),
        lot_size=int(str(value["lot_size"])),
        tick_size=Decimal(str(value["tick_size"])),
        freeze_quantity=int(str(value["freeze_quantity"])),
        multiplier=None if value["multiplier"] is None else int(str(value["multiplier"])),
        underlying=str(value["underlying"]),
        instrument_type=str(value["instrument_type"]),
        expiry=_date(value["expiry"]),
        strike=_decimal(value["strike"]),
        option_type=str(value["option_type"]),
        lower_limit=_decimal(value["lower_limit"]),
        upper_limit=_decimal(value["upper_limit"]),
        master_date=_date(value["master_date"]),
    )


_ALIKE = {"CALL": "CE", "PUT": "PE", "FUTURE": "FUT", "FUTURES": "FUT"}
_BESIDE_THE_NAME = re.compile(
    r"CE|PE|FUT(IDX|STK|COM|CUR)?|OPT(IDX|STK|FUT|CUR)|((NSE|BSE|MCX|IDX)_?)?(EQ|FNO|CURRENCY|COMM|I)?"
    r"|\d{1,2}|20\d\d(-\d\d-\d\d)?|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC",
    re.ASCII,
)


_DAY = re.compile(r"-[0-9]{2}(?=[A-Z]{3}[0-9]{4})", re.ASCII)
"""What an instrument's label has more than its symbol."""


def _words_of(instrument: Instrument) -> set[str]:
    """Every word by which a trader may name an instrument."""
    security, expiry = instrument.security, instrument.expiry
    words = {security.security_id, security.exchange_segment, *security.exchange_segment.split("_")}
    words |= {instrument.symbol.upper(), instrument.underlying.upper(), *instrument.symbol.upper().split("-")}
    words.add(instrument.label.upper())
    words |= {instrument.option_type, instrument.instrument_type}
    if instrument.strike is not None:
        words.add(plain(instrument.strike))
    if expiry is not None:
        words |= {str(expiry.day), f"{expiry:%d}", f"{expiry:%b}".upper(), str(expiry.year), expiry.isoformat()}
    if instrument.instrument_type.startswith("FUT"):
        words.add("FUT")
    return words


def _date(value: object) -> date | None:
    return None if value is None else date.fromisoformat(str(value))


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _like(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class _Problems:
    """Counts all and keeps the first."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.count += 1
        if len(self.lines) < MAX_PROBLEMS:
            self.lines.append(line)


def _counted(rows: Iterator[Row], progress: Progress | None) -> Iterator[Row]:
    for count, row in enumerate(rows, 1):
        if progress is not None and count % _REPORT_EVERY == 0:
            progress(count, None)
        yield row
