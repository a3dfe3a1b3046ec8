"""Reads JSON from Dhan, and the single fields of it: quantities, prices, ids, times.

Everything here is a pure function.  What cannot be read raises `FrameError`; it is never guessed,
and a number that Dhan leaves out is 0 only where Dhan is known to leave zeros out.
Error texts never quote more than a short, printable piece of the message.  What the fields
together mean is for `frames` and `bodies` to say.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from copytrader.core.model import IST, ZERO

MAX_TEXT = 300
MAX_QUANTITY = 1_000_000_000
MAX_PRICE = Decimal(100_000_000)
MAX_MONEY = Decimal(10**16)
_SMALLEST_PRICE = Decimal("1E-8")
_LONGEST_NUMBER = 32

_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,8})?", re.ASCII)
ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)
_EnumT = TypeVar("_EnumT", bound=StrEnum)
Row = dict[str, Any]
"""One JSON object with its keys in lower case."""


class FrameError(ValueError):
    """A message of Dhan that cannot be read; the text says why, in bounded printable words."""


def parse_body(body: str | bytes) -> object:
    """The JSON of a body: keys in lower case, decimals exact, no NaN, no contradicting keys."""
    try:
        return _DECODER.decode(body if isinstance(body, str) else body.decode("utf-8"))
    except FrameError:
        raise
    except UnicodeDecodeError:
        raise FrameError("not UTF-8") from None
    except (ValueError, ArithmeticError):
        raise FrameError("not JSON") from None
    except RecursionError:
        raise FrameError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = {key.lower(): value for key, value in pairs}
    if len(row) != len(pairs):
        _resolve_repeated_keys(row, pairs)
    return row


def _resolve_repeated_keys(row: Row, pairs: list[tuple[str, Any]]) -> None:
    """Dhan's own sample has `Remarks` twice; any other key that contradicts itself is refused."""
    for key, value in pairs:
        name = key.lower()
        if row[name] == value:
            continue
        if name != "remarks":
            raise FrameError(f"two values for {printable(name, 30)}")
        row[name] = f"{value} {row[name]}"


def _decimal(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise FrameError("a number is too long")
    return Decimal(text)


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError(f"{name} is not a number")


_DECODER = json.JSONDecoder(parse_float=_decimal, parse_constant=_refuse_constant, object_pairs_hook=_object)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """The text cut to `limit` characters, with a blank for each character a terminal must not see."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


def lower(row: object) -> Row:
    if not isinstance(row, dict):
        raise FrameError("a row is not an object")
    return {str(key).lower(): value for key, value in row.items()}


def quantity(row: Row, key: str) -> int:
    """A count of units; absent and null mean 0, anything but a whole number is refused."""
    value = row.get(key)
    if value is None:
        return 0
    if type(value) is not int:
        value = signed_quantity(row, key)
    if not 0 <= value <= MAX_QUANTITY:
        raise FrameError(f"{key} is negative or too large")
    return value


def signed_quantity(row: Row, key: str) -> int:
    """A count that must be there."""
    number = exact(row.get(key), key)
    if number != number.to_integral_value() or abs(number) > MAX_QUANTITY:
        raise FrameError(f"{key} is not whole or too large")
    return int(number)


def exact(value: object, key: str) -> Decimal:
    """A number: 75, 75.0 and "75" are the same, as Dhan's documents and its answers differ in how one is written."""
    if type(value) is str and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if type(value) is int:
        value = Decimal(value)
    elif type(value) is float:
        value = Decimal(repr(value))
    if type(value) is not Decimal or not value.is_finite() or not -MAX_MONEY <= value <= MAX_MONEY:
        raise FrameError(f"{key} is missing, too large or not a number")
    return value


def price(row: Row, key: str) -> Decimal:
    value = row.get(key)
    if value is None:
        return ZERO
    number = exact(value, key)
    if not ZERO <= number <= MAX_PRICE:
        raise FrameError(f"{key} is negative or too large")
    if number and number < _SMALLEST_PRICE:
        raise FrameError(f"{key} is too small")
    return number


def money(row: Row, key: str) -> Decimal:
    """An amount or average that may be negative or full of rounding noise, such as 1.4E-14; absent means 0."""
    value = row.get(key)
    return ZERO if value is None else exact(value, key)


def identifier(row: Row, key: str) -> str:
    value = row.get(key)
    if type(value) is int:
        value = str(value) if abs(value) < 10**32 else ""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise FrameError(f"{key} is missing or not an id")
    return value


def word(row: Row, key: str) -> str:
    """A text field in upper case; "" where absent."""
    value = row.get(key)
    return value.strip().upper() if isinstance(value, str) else ""


def text(row: Row, key: str) -> str:
    value = row.get(key)
    return printable(value).strip() if isinstance(value, str) else ""


def code(table: dict[str, _EnumT], row: Row, key: str) -> _EnumT:
    name = word(row, key)
    try:
        return table[name]
    except KeyError:
        raise FrameError(f"{key} is missing or unknown: {printable(name, 30)!r}") from None


def flag(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is True or value == 1 or (isinstance(value, str) and value.upper() in ("1", "TRUE"))


def time(row: Row, key: str) -> datetime | None:
    """Dhan's local time as aware IST; None for its sentinels (`0001-01-01…`, "NA", absent)."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise FrameError(f"{key} is not a time")
    if value in NO_TIME or value.startswith("0001-"):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise FrameError(f"{key} is not a time: {printable(value, 30)!r}") from None
    if not 2000 <= moment.year <= 2100:
        raise FrameError(f"{key} is not a plausible time: {printable(value, 30)!r}")
    if moment.tzinfo is None:
        return datetime.combine(moment, moment.time(), IST)  # `replace` takes four times as long
    return moment.astimezone(IST)


NO_TIME = frozenset({"", "NA", "0"})


def correlation_id(row: Row) -> str:
    value = row.get("correlationid")
    if value is None or value in ("NA", "NR"):
        return ""
    if not isinstance(value, str):
        raise FrameError("correlationid is not a text")
    return printable(value, 64)


def check_client(row: Row, key: str, client_id: str) -> None:
    value = row.get(key)
    if type(value) is int:
        value = str(value) if abs(value) < 10**32 else ""
    if value != client_id:
        raise FrameError("the order belongs to another client id" if value else "no client id")


def check_filled(filled: int, quantity: int) -> None:
    if quantity < 1:
        raise FrameError("quantity is missing or 0")
    if filled > quantity:
        raise FrameError("more was filled than ordered")
