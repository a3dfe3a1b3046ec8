"""Reads Dhan's instrument file, in both of its layouts, by column name.

A row whose numbers cannot be read is left out and named, because no copy is better than a wrong
size; a file that ends in the middle of a row is refused.  Nothing here keeps anything.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TextIO

from copytrader.dhan.codes import exchange_segment
from copytrader.dhan.fields import printable
from copytrader.dhan.master.errors import MasterError

Row = tuple[str | int | None, ...]
"""One instrument as it is stored."""

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


def read_master(file: TextIO, problem: Callable[[str], None]) -> Iterator[Row]:
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
        listed = ", ".join(missing)
        raise MasterError(f"not Dhan's instrument file, there is no column {listed}; name another with --from")
    return columns


def _row_reader(columns: dict[str, int]) -> Callable[[list[str]], Row]:
    """A function that turns one row's cells into a stored row; columns that the file lacks are blank."""
    blank = -1
    at = {key: columns.get(key, blank) for key in (*_DETAILED,)}
    exchange, segment, security_id = at["exchange"], at["segment"], at["security_id"]
    type_, symbol, name, underlying = at["type"], at["symbol"], at["name"], at["underlying"]
    lot_, tick_, freeze, expiry = at["lot"], at["tick"], at["freeze"], at["expiry"]
    strike, option, lower, upper = at["strike"], at["option"], at["lower"], at["upper"]
    segment_of = lru_cache(maxsize=64)(exchange_segment)

    def read(cells: list[str]) -> Row:
        cells.append("")
        market = segment_of(cells[exchange], cells[segment])
        if market is None:
            raise _BadRow(f"{printable(cells[exchange], 10)} {printable(cells[segment], 10)} is not a known segment")
        if not _ID.fullmatch(cells[security_id]):
            raise _BadRow("no security id")
        is_index = cells[segment] == "I"
        lot = _whole(cells[lot_], "lot size")
        if lot < 1 and not is_index:
            raise _BadRow(f"security {cells[security_id]}: lot size {lot} is not above 0")
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
def _number(text: str, what: str) -> Decimal | None:
    text = text.strip()
    if text in _NOTHING:
        return None
    if not _NUMBER.fullmatch(text):
        raise _BadRow(f"{what} {printable(text, 30)!r} is not a number")
    return Decimal(text)


@lru_cache(maxsize=4096)
def _whole(text: str, what: str) -> int:
    """Dhan writes whole numbers as `65` and as `65.0`."""
    number = _number(text, what)
    if number is None or number != number.to_integral_value() or number > 1_000_000_000:
        raise _BadRow(f"{what} {printable(text, 30)!r} is not a whole number")
    return int(number)


@lru_cache(maxsize=4096)
def _tick(text: str, is_index: bool) -> str:
    """Rupees: the file has paise, except for indices, which nobody trades."""
    number = _number(text, "tick")
    if is_index:
        return plain(number or Decimal(0))
    if number is None or number <= 0:
        raise _BadRow(f"tick {printable(text, 30)!r} is not above 0")
    return plain(number / 100)


@lru_cache(maxsize=4096)
def _largest_order(text: str, lot: int) -> int:
    """The file gives the first quantity that freezes; the largest order is whole lots below it."""
    number = _number(text, "freeze quantity")
    if number is None or number <= 0:
        return 0
    return max((int(number) - 1) // lot * lot, lot)


def _multiplier(market: str) -> int | None:
    """Rupees per point and unit.  Commodity and currency lots are not in the file: unknown."""
    return 1 if market.endswith(("_EQ", "_FNO")) or market == "IDX_I" else None


@lru_cache(maxsize=16_384)
def _strike(text: str) -> str | None:
    """Futures have -0.01."""
    number = _number(text, "strike")
    return None if number is None or number <= 0 else plain(number)


def _limit(text: str) -> str | None:
    """There are too many different ones to remember, and their text is all that is stored."""
    if not _PLAIN_NUMBER.fullmatch(text):
        number = _number(text, "price limit")
        return None if number is None or number <= 0 else plain(number)
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return short if short != "0" else None


@lru_cache(maxsize=4096)
def _day(text: str) -> str | None:
    day = text.strip()[:10]
    if day in _NOTHING or day == "0001-01-01":
        return None
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise _BadRow(f"expiry {printable(text, 30)!r} is no date") from None


def plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
