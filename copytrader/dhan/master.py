"""The instrument master: lot sizes, ticks and freeze quantities from Dhan's daily file.

Reads both layouts of the file by column name and keeps the rows in a SQLite file of its
own, writing only what changed.  A file that looks cut off changes nothing.  A row whose
numbers cannot be read is left out and named, because no copy is better than a wrong size.
"""

from __future__ import annotations

import asyncio
import csv
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import aiohttp
from yarl import URL

from copytrader.core.model import Instrument, Security
from copytrader.dhan.codes import exchange_segment
from copytrader.dhan.fields import printable
from copytrader.dhan.transport import checked_url, reason
from copytrader.failure import Failure

Progress = Callable[[int, int | None], None]
"""Told how much is done and of how much (None while unknown): bytes in a download, then rows."""

SHRUNK_TO = 0.5
"""A file with fewer rows than this share of the last one's is taken for a broken one."""
MAX_FILE = 512 * 1024 * 1024
MAX_PROBLEMS = 100
MAX_CHANGES = 1000
_REDIRECTS = 5
_REPORT_EVERY = 20_000


class MasterError(Failure):
    """The instruments could not be read; the old ones are kept."""


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
    """What a sync did.  `problems` and `changes` are bounded; `problem_count` and the like are not."""

    rows: int
    added: int
    changed: int
    removed: int
    problem_count: int
    problems: tuple[str, ...]
    changes: tuple[Change, ...]


_Row = tuple[str | int | None, ...]
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
            raise MasterError(f"{path}: {error.strerror}") from None
        except sqlite3.Error as error:
            raise MasterError(f"{path}: {error}; delete the file and sync again") from None

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
        except OSError as error:
            raise MasterError(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, csv.Error):
            raise MasterError(f"{path}: not Dhan's instrument file, or a damaged one; the old ones are kept") from None
        except sqlite3.Error as error:
            raise MasterError(f"the instruments could not be stored: {error}") from None

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

    An instrument leaves when the file names it again; what stays to the end is gone.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        same: dict[_Sizes, _Sizes] = {}
        self.rows: dict[str, tuple[int, _Sizes]] = {}
        for row in db.execute(f"select {_NAMES} from instrument"):  # noqa: S608  # our own names
            sizes = _sizes(row)
            self.rows[_key(row)] = (hash(row), same.setdefault(sizes, sizes))
        self.count = len(self.rows)
        self.changes: list[Change] = []

    def differing(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """The rows that are new or not as stored."""
        for row in rows:
            stored = self.rows.pop(_key(row), None)
            if stored is None:
                yield row
            elif stored[0] != hash(row):
                self._note(row, stored[1])
                yield row

    def _note(self, row: _Row, old: _Sizes) -> None:
        for what, before, now in zip(_SIZE_NAMES, old, _sizes(row), strict=True):
            if before != now and len(self.changes) < MAX_CHANGES:
                security = Security(str(row[0]), str(row[1]))
                self.changes.append(Change(security, str(row[2]), what, str(before), str(now)))


def _key(row: _Row) -> str:
    return f"{row[0]} {row[1]}"


def _sizes(row: _Row) -> _Sizes:
    return row[_LOT], row[_LOT + 1], row[_LOT + 2]


def _take_over(db: sqlite3.Connection, rows: Iterator[_Row], problems: _Problems) -> SyncReport:
    """Makes the stored rows equal to the file's, touching only those that differ."""
    stored = _Stored(db)
    written = db.executemany(_WRITE, stored.differing(rows)).rowcount
    removed = len(stored.rows)
    db.executemany(_REMOVE, (tuple(key.split(" ")) for key in stored.rows))
    count = _scalar(db, "select count(*) from instrument")
    _refuse_shrunk(count, stored.count)
    added = count - (stored.count - removed)
    changes = tuple(stored.changes)
    return SyncReport(count, added, max(written, 0) - added, removed, problems.count, tuple(problems.lines), changes)


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
        words.add(_plain(instrument.strike))
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


def _counted(rows: Iterator[_Row], progress: Progress | None) -> Iterator[_Row]:
    for count, row in enumerate(rows, 1):
        if progress is not None and count % _REPORT_EVERY == 0:
            progress(count, None)
        yield row


# --- The file ------------------------------------------------------------------------

_DETAILED = {
    "exchange": "EXCH_ID",
    "segment": "SEGMENT",
    "security_id": "SECURITY_ID",
    "type": "INSTRUMENT",
    "symbol": "SYMBOL_NAME",
    "name": "DISPLAY_NAME",
    "lot": "LOT_SIZE",
    "tick": "TICK_SIZE",
    "expiry": "SM_EXPIRY_DATE",
    "strike": "STRIKE_PRICE",
    "option": "OPTION_TYPE",
    "underlying": "UNDERLYING_SYMBOL",
    "upper": "SM_UPPER_LIMIT",
    "lower": "SM_LOWER_LIMIT",
    "freeze": "SM_FREEZE_QTY",
}
_COMPACT = {
    "exchange": "SEM_EXM_EXCH_ID",
    "segment": "SEM_SEGMENT",
    "security_id": "SEM_SMST_SECURITY_ID",
    "type": "SEM_INSTRUMENT_NAME",
    "symbol": "SEM_TRADING_SYMBOL",
    "name": "SEM_CUSTOM_SYMBOL",
    "lot": "SEM_LOT_UNITS",
    "tick": "SEM_TICK_SIZE",
    "expiry": "SEM_EXPIRY_DATE",
    "strike": "SEM_STRIKE_PRICE",
    "option": "SEM_OPTION_TYPE",
}
_REQUIRED = ("exchange", "segment", "security_id", "type", "symbol", "lot", "tick")
_CONTRACT_TAIL = re.compile(r"-[A-Z][a-z]{2}\d{4}-.*\Z")
_ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,10})?(E\+?\d{1,2})?", re.ASCII)
_PLAIN_NUMBER = re.compile(r"\d{1,9}(\.\d{1,10})?", re.ASCII)
_NOTHING = frozenset({"", "nan", "NaN", "NA", "None", "null"})


class _BadRow(ValueError):
    pass


def read_master(file: TextIO, problem: Callable[[str], None]) -> Iterator[_Row]:
    """The rows of a master file as they are stored; `problem` hears of each that is left out.

    A last line without its end is cut off when it has fewer cells than the others.
    """
    lines = _WholeLines(file)
    reader = csv.reader(lines)
    header = [name.strip() for name in next(reader, [])]
    columns = _columns(header)
    read = _row_reader(columns)
    width = len(header) - (1 if header and not header[-1] else 0)
    short: int | None = None
    widest = last = 0
    for cells in reader:
        widest, last = max(widest, len(cells)), len(cells)
        if short is not None:
            problem(f"line {short}: too few columns")
            short = None
        if len(cells) < width:
            short = reader.line_num if cells else None
            continue
        try:
            yield read(cells)
        except _BadRow as error:
            problem(f"line {reader.line_num}: {error}")
    if short is not None or (not lines.complete and last < widest):
        raise MasterError("the file ends in the middle of a row: it is cut off, the old instruments are kept")


class _WholeLines:
    """The lines of a file; remembers whether the last one was complete."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.complete = True

    def __iter__(self) -> Iterator[str]:
        line = "\n"
        for line in self._file:
            yield line
        self.complete = line.endswith(("\n", "\r"))


def _columns(header: list[str]) -> dict[str, int]:
    layout = _COMPACT if _COMPACT["security_id"] in header else _DETAILED
    columns = {key: header.index(name) for key, name in layout.items() if name in header}
    missing = [layout[key] for key in _REQUIRED if key not in columns]
    if missing:
        raise MasterError("this is not Dhan's instrument file: no column " + ", ".join(missing))
    return columns


def _row_reader(columns: dict[str, int]) -> Callable[[list[str]], _Row]:
    """A function that turns one row's cells into a stored row; columns that the file lacks are blank."""
    blank = -1
    at = {key: columns.get(key, blank) for key in (*_DETAILED,)}
    exchange, segment, security_id = at["exchange"], at["segment"], at["security_id"]
    type_, symbol, name, underlying = at["type"], at["symbol"], at["name"], at["underlying"]
    lot_, tick_, freeze, expiry = at["lot"], at["tick"], at["freeze"], at["expiry"]
    strike, option, lower, upper = at["strike"], at["option"], at["lower"], at["upper"]
    segment_of = lru_cache(maxsize=64)(exchange_segment)

    def read(cells: list[str]) -> _Row:
        cells.append("")
        market = segment_of(cells[exchange], cells[segment])
        if market is None:
            raise _BadRow(f"{printable(cells[exchange], 10)} {printable(cells[segment], 10)} is not a known segment")
        if not _ID.fullmatch(cells[security_id]):
            raise _BadRow("no security id")
        is_index = cells[segment] == "I"
        lot = _whole(cells[lot_], "lot size")
        if lot < 1 and not is_index:
            raise _BadRow(f"security {cells[security_id]}: lot size {lot}")
        expires = _day(cells[expiry])
        title, based_on = _titles(cells[symbol], cells[underlying], is_derivative=expires is not None)
        return (
            market,
            cells[security_id],
            title,
            printable(cells[name], 100),
            based_on,
            printable(cells[type_], 20),
            max(lot, 1),
            _tick(cells[tick_], is_index),
            _largest_order(cells[freeze], max(lot, 1)),
            _multiplier(market),
            expires,
            _strike(cells[strike]),
            cells[option] if cells[option] in ("CE", "PE") else "",
            _limit(cells[lower]),
            _limit(cells[upper]),
        )

    return read


def _titles(symbol: str, underlying: str, is_derivative: bool) -> tuple[str, str]:
    """Symbol and underlying.

    The detailed file puts the trading symbol of a derivative in SYMBOL_NAME and that of a
    share in UNDERLYING_SYMBOL; the compact file has trading symbols only.
    """
    if underlying in _NOTHING:
        underlying = _CONTRACT_TAIL.sub("", symbol)
    title = symbol if is_derivative else underlying
    return printable(title, 60), printable(underlying, 60)


@lru_cache(maxsize=65_536)
def _number(text: str) -> Decimal | None:
    text = text.strip()
    if text in _NOTHING:
        return None
    if not _NUMBER.fullmatch(text):
        raise _BadRow(f"{printable(text, 30)!r} is not a number")
    return Decimal(text)


@lru_cache(maxsize=4096)
def _whole(text: str, what: str) -> int:
    """Dhan writes whole numbers as `65` and as `65.0`."""
    number = _number(text)
    if number is None or number != number.to_integral_value() or number > 1_000_000_000:
        raise _BadRow(f"{what} {printable(text, 30)!r}")
    return int(number)


@lru_cache(maxsize=4096)
def _tick(text: str, is_index: bool) -> str:
    """Rupees: the file has paise, except for indices, which nobody trades."""
    number = _number(text)
    if is_index:
        return _plain(number or Decimal(0))
    if number is None or number <= 0:
        raise _BadRow(f"tick {printable(text, 30)!r}")
    return _plain(number / 100)


@lru_cache(maxsize=4096)
def _largest_order(text: str, lot: int) -> int:
    """The file gives the first quantity that freezes; the largest order is whole lots below it."""
    number = _number(text)
    if number is None or number <= 0:
        return 0
    return max((int(number) - 1) // lot * lot, lot)


def _multiplier(market: str) -> int | None:
    """Rupees per point and unit.  Commodity and currency lots are not in the file: unknown."""
    return 1 if market.endswith(("_EQ", "_FNO")) or market == "IDX_I" else None


@lru_cache(maxsize=16_384)
def _strike(text: str) -> str | None:
    """Futures have -0.01."""
    number = _number(text)
    return None if number is None or number <= 0 else _plain(number)


def _limit(text: str) -> str | None:
    """There are too many different ones to remember, and their text is all that is stored."""
    if not _PLAIN_NUMBER.fullmatch(text):
        number = _number(text)
        return None if number is None or number <= 0 else _plain(number)
    plain = text.rstrip("0").rstrip(".") if "." in text else text
    return plain if plain != "0" else None


@lru_cache(maxsize=4096)
def _day(text: str) -> str | None:
    day = text.strip()[:10]
    if day in _NOTHING or day == "0001-01-01":
        return None
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise _BadRow(f"expiry {printable(text, 30)!r}") from None


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- The download --------------------------------------------------------------------


async def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """Fetches the master into a file, whole or not at all."""
    timeout = aiohttp.ClientTimeout(total=600, connect=10, sock_read=30)
    try:
        address = checked_url(url, "https")
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            await _fetch(session, address, target, progress)
    except ValueError as error:
        raise MasterError(f"instruments_url: {error}") from None
    except aiohttp.ClientPayloadError:
        raise MasterError("the download of the instruments broke off; the old ones are kept") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _failed(address, reason(error)) from None


async def _fetch(session: aiohttp.ClientSession, address: URL, target: Path, progress: Progress | None) -> None:
    for _ in range(_REDIRECTS + 1):
        async with session.get(address, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                address = _redirected(address, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise _failed(address, f"status {response.status}")
            await _save(response, target, progress)
            return
    raise MasterError("the instruments cannot be downloaded: too many redirects")


def _failed(address: URL, why: str) -> MasterError:
    where = address.with_query(None).with_fragment(None)
    return MasterError(
        f"the instruments cannot be downloaded from {where}: {why}: look at the network and at dhan.instruments_url"
    )


def _redirected(address: URL, location: str) -> URL:
    """Only to an encrypted address or within the same host."""
    target = address.join(URL(location))
    same_host = (target.scheme, target.host) == (address.scheme, address.host)
    if not location or not (target.scheme == "https" or same_host):
        raise MasterError("the instruments cannot be downloaded: redirected to an unsafe address")
    return target


async def _save(response: aiohttp.ClientResponse, target: Path, progress: Progress | None) -> None:
    total = response.content_length if "Content-Encoding" not in response.headers else None
    done = 0
    with closing(target.open("wb")) as file:
        async for chunk in response.content.iter_chunked(1 << 18):
            done += len(chunk)
            if done > MAX_FILE:
                raise MasterError("the instruments cannot be downloaded: the file is too large")
            file.write(chunk)
            if progress is not None:
                progress(done, total)
