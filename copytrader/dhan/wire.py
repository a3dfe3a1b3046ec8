"""Reads what Dhan sends: order-update frames and the JSON bodies of its REST answers.

Made after real frames and books, which differ from Dhan's documentation.  Everything
here is a pure function.  What cannot be read raises `FrameError`; it is never guessed,
and a number that Dhan leaves out is 0 only where Dhan is known to leave zeros out.
Error texts never quote more than a short, printable piece of the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from copytrader.core.model import (
    IST,
    ZERO,
    Funds,
    Order,
    OrderKind,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)

MAX_FRAME = 65_536
"""The longest frame that is looked at, in characters; a real one has about a thousand."""
MAX_NESTING = 64
MAX_TEXT = 300
MAX_QUANTITY = 1_000_000_000
MAX_PRICE = Decimal(100_000_000)
MAX_MONEY = 10**16
_SMALLEST_PRICE_DIGIT = -8
_LONGEST_NUMBER = 32

_ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)
_SEGMENT = re.compile(r"[A-Z_]{2,20}", re.ASCII)
_EnumT = TypeVar("_EnumT", bound=StrEnum)
_RowT = TypeVar("_RowT")
Row = dict[str, Any]
"""One JSON object with its keys in lower case."""


class FrameError(ValueError):
    """A message of Dhan that cannot be read; the text says why, in bounded printable words."""


class NotAnOrder(Exception):
    """A well-formed frame that is not about an order, such as a heartbeat."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill of the trade book."""

    trade_id: str
    order_id: str
    security: Security
    symbol: str
    side: Side
    product: Product
    quantity: int
    price: Decimal
    traded_at: datetime | None


@dataclass(frozen=True, slots=True)
class Profile:
    """Whose token it is, until when it is valid, and where the account may trade."""

    client_id: str
    token_valid_until: datetime | None
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IpSettings:
    """The static addresses Dhan knows for an account; None and "" where Dhan does not say."""

    primary: str
    secondary: str
    detected: str
    match: str
    orders_allowed: bool | None


@dataclass(frozen=True, slots=True)
class Margin:
    """What the margin calculator says about one ticket, in rupees."""

    total: Decimal
    insufficient: Decimal
    brokerage: Decimal


# --- JSON ----------------------------------------------------------------------------


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


# --- Fields --------------------------------------------------------------------------


def _lower(row: object) -> Row:
    if not isinstance(row, dict):
        raise FrameError("a row is not an object")
    return {str(key).lower(): value for key, value in row.items()}


def _quantity(row: Row, key: str) -> int:
    """A count of units; absent and null mean 0, anything but an integer is refused."""
    value = row.get(key)
    if value is None:
        return 0
    if type(value) is not int:
        raise FrameError(f"{key} is not an integer")
    if not 0 <= value <= MAX_QUANTITY:
        raise FrameError(f"{key} is negative or too large")
    return value


def _signed_quantity(row: Row, key: str) -> int:
    """A count that must be there; the rows it is read from are known from documents only, so 75.0 will do."""
    number = _number(row.get(key), key)
    if number != number.to_integral_value() or abs(number) > MAX_QUANTITY:
        raise FrameError(f"{key} is not whole or too large")
    return int(number)


def _number(value: object, key: str) -> Decimal:
    if type(value) is int and -MAX_MONEY <= value <= MAX_MONEY:
        return Decimal(value)
    if type(value) is float:
        value = Decimal(repr(value))
    if type(value) is not Decimal or not value.is_finite() or abs(value) > MAX_MONEY:
        raise FrameError(f"{key} is missing, too large or not a number")
    return value


def _price(row: Row, key: str) -> Decimal:
    value = row.get(key)
    if value is None:
        return ZERO
    number = _number(value, key)
    if not 0 <= number <= MAX_PRICE:
        raise FrameError(f"{key} is negative or too large")
    if number and number.adjusted() < _SMALLEST_PRICE_DIGIT:
        raise FrameError(f"{key} is too small")
    return number


def _money(row: Row, key: str) -> Decimal:
    """An amount or average that may be negative or full of rounding noise, such as 1.4E-14; absent means 0."""
    value = row.get(key)
    return ZERO if value is None else _number(value, key)


def _id(row: Row, key: str) -> str:
    value = row.get(key)
    if type(value) is int:
        value = str(value) if abs(value) < 10**32 else ""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise FrameError(f"{key} is missing or not an id")
    return value


def _word(row: Row, key: str) -> str:
    """A text field in upper case; "" where absent."""
    value = row.get(key)
    return value.strip().upper() if isinstance(value, str) else ""


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    return printable(value).strip() if isinstance(value, str) else ""


def _code(table: dict[str, _EnumT], row: Row, key: str) -> _EnumT:
    try:
        return table[_word(row, key)]
    except KeyError:
        raise FrameError(f"{key} is missing or unknown: {printable(_word(row, key), 30)!r}") from None


def _flag(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is True or value == 1 or (isinstance(value, str) and value.upper() in ("1", "TRUE"))


def _time(row: Row, key: str) -> datetime | None:
    """Dhan's local time as aware IST; None for its sentinels (`0001-01-01…`, "NA", absent)."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise FrameError(f"{key} is not a time")
    if value in _NO_TIME or value.startswith("0001-"):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise FrameError(f"{key} is not a time: {printable(value, 30)!r}") from None
    if not 2000 <= time.year <= 2100:
        raise FrameError(f"{key} is not a plausible time: {printable(value, 30)!r}")
    return time.replace(tzinfo=IST) if time.tzinfo is None else time.astimezone(IST)


_NO_TIME = frozenset({"", "NA", "0"})


def _correlation_id(row: Row) -> str:
    value = row.get("correlationid")
    if value is None or value in ("NA", "NR"):
        return ""
    if not isinstance(value, str):
        raise FrameError("correlationid is not a text")
    return printable(value, 64)


def _check_client(row: Row, key: str, client_id: str) -> None:
    value = row.get(key)
    if type(value) is int:
        value = str(value) if abs(value) < 10**32 else ""
    if value != client_id:
        raise FrameError("the order belongs to another client id" if value else "no client id")


def _check_filled(filled: int, quantity: int) -> None:
    if quantity < 1:
        raise FrameError("quantity is missing or 0")
    if filled > quantity:
        raise FrameError("more was filled than ordered")


# --- Order-update frames -------------------------------------------------------------

_SIDES = {"B": Side.BUY, "S": Side.SELL, "BUY": Side.BUY, "SELL": Side.SELL}
_PRODUCTS = {
    "C": Product.CNC,
    "I": Product.INTRADAY,
    "M": Product.MARGIN,
    "F": Product.MTF,
    "V": Product.CO,
    "B": Product.BO,
} | {product.value: product for product in Product}
_ORDER_TYPES = {
    "LMT": OrderType.LIMIT,
    "MKT": OrderType.MARKET,
    "SL": OrderType.STOP_LOSS,
    "SLM": OrderType.STOP_LOSS_MARKET,
    "SL-M": OrderType.STOP_LOSS_MARKET,
} | {order_type.value: order_type for order_type in OrderType}
_VALIDITIES = {validity.value: validity for validity in Validity}
_STATUSES = {status.value: status for status in OrderStatus}
_SUPER_STATUSES = {
    "ACTIVE": OrderStatus.PENDING,
    "DUMMY": OrderStatus.PENDING,
    "CLOSED": OrderStatus.PENDING,
}
"""Statuses that only legs of super orders have; none of them proves that the leg has ended."""
_SEGMENTS = {
    ("NSE", "E"): "NSE_EQ",
    ("NSE", "D"): "NSE_FNO",
    ("NSE", "C"): "NSE_CURRENCY",
    ("NSE", "M"): "NSE_COMM",
    ("BSE", "E"): "BSE_EQ",
    ("BSE", "D"): "BSE_FNO",
    ("BSE", "C"): "BSE_CURRENCY",
    ("MCX", "M"): "MCX_COMM",
}
_ORDER_KEYS = frozenset({"orderno", "status", "quantity", "txntype", "securityid"})


def exchange_segment(exchange: str, segment: str) -> str | None:
    """Dhan's REST name for an exchange and its one-letter segment, None where it has none."""
    if segment == "I":
        return "IDX_I"
    return _SEGMENTS.get((exchange, segment))


def read_frame(raw: str | bytes, client_id: str) -> Order:
    """The order a frame tells about.

    Raises `NotAnOrder` for frames about something else and `FrameError` for what cannot
    be read or belongs to another client.
    """
    if len(raw) > MAX_FRAME:
        raise FrameError(f"a frame of {len(raw)} characters")
    text = raw if isinstance(raw, str) else _decode(raw)
    if text.count("{") + text.count("[") > MAX_NESTING:
        raise FrameError("nested too deeply")
    return _order_of_frame(_frame_data(parse_body(text)), client_id)


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError("not UTF-8") from None


def _frame_data(frame: object) -> Row:
    if type(frame) is int:
        raise NotAnOrder("a heartbeat")
    if not isinstance(frame, dict):
        raise FrameError("not an object")
    kind = frame.get("type")
    if kind is not None and (not isinstance(kind, str) or kind.lower() != "order_alert"):
        raise NotAnOrder(f"a frame of type {printable(str(kind), 30)!r}")
    data: object = frame.get("data") if kind or "data" in frame else frame
    if not isinstance(data, dict):
        raise FrameError("no Data object")
    if kind is None and not _ORDER_KEYS & data.keys():
        raise NotAnOrder("a frame without an order")
    return data


def _order_of_frame(row: Row, client_id: str) -> Order:
    _check_client(row, "clientid", client_id)
    quantity, filled = _quantity(row, "quantity"), _quantity(row, "tradedqty")
    _check_filled(filled, quantity)
    product = _code(_PRODUCTS, row, "product")
    status, is_leg = _frame_status(row)
    kind = OrderKind.SUPER if is_leg else _frame_kind(row, product)
    ticket = Ticket(
        security=Security(_frame_segment(row), _id(row, "securityid")),
        side=_code(_SIDES, row, "txntype"),
        product=product,
        order_type=_code(_ORDER_TYPES, row, "ordertype"),
        validity=_code(_VALIDITIES, row, "validity"),
        quantity=quantity,
        price=_price(row, "price"),
        trigger_price=_price(row, "triggerprice"),
        disclosed_quantity=_quantity(row, "discquantity"),
        # A forever order's child bears offMktFlag "1" without being an after-market order.
        after_market=kind is not OrderKind.FOREVER_CHILD and _flag(row, "offmktflag"),
    )
    return Order(
        order_id=_id(row, "orderno"),
        ticket=ticket,
        status=status,
        placed_at=_time(row, "orderdatetime"),
        updated_at=_time(row, "lastupdatedtime"),
        filled_quantity=filled,
        average_price=_money(row, "avgtradedprice"),
        correlation_id=_correlation_id(row),
        kind=kind,
        platform=_text(row, "orderplatform"),
        last_price=_price(row, "refltp") or None,
        note=_text(row, "reasondescription"),
    )


def _frame_segment(row: Row) -> str:
    segment = exchange_segment(_word(row, "exchange"), _word(row, "segment"))
    if segment is None:
        raise FrameError("exchange and segment are missing or unknown")
    return segment


def _frame_status(row: Row) -> tuple[OrderStatus, bool]:
    """The status, and whether only a leg of a super order can have it."""
    word = _word(row, "status").replace("-", "_").replace(" ", "_")
    if word in _STATUSES:
        return _STATUSES[word], False
    if word in _SUPER_STATUSES:
        return _SUPER_STATUSES[word], True
    raise FrameError(f"status is missing or unknown: {printable(word, 30)!r}")


def _frame_kind(row: Row, product: Product) -> OrderKind:
    if product is Product.BO:
        return OrderKind.BRACKET
    if product is Product.CO:
        return OrderKind.COVER
    platform = _word(row, "orderplatform")
    if platform == "FOVR":
        return OrderKind.FOREVER_CHILD
    if (
        row.get("legno") in (2, 3, "2", "3")
        or "SUPER ORDER" in _word(row, "remarks")
        or "VTT" in platform
        or "SQROFF" in _word(row, "correlationid")
    ):
        return OrderKind.SUPER
    if row.get("algoordno") and row.get("correlationid") == "NR":
        return OrderKind.FOREVER_CHILD
    return OrderKind.ORDINARY


# --- REST answers --------------------------------------------------------------------


def read_orders(body: object, client_id: str = "") -> tuple[tuple[Order, ...], tuple[str, ...]]:
    """The orders of a book, and a line for each row that cannot be read.

    With a `client_id`, a row of another client is such a row too.
    """
    return _read_rows(body, lambda row: _order_of_row(row, client_id))


def read_order(body: object, client_id: str = "") -> Order | None:
    """The one order of a look-up, which Dhan sends as an object or as a list; None for `[]`."""
    body = _unwrapped(body)
    rows = body if isinstance(body, list) else [body]
    if len(rows) > 1:
        raise FrameError(f"{len(rows)} orders where one was asked for")
    return _order_of_row(_lower(rows[0]), client_id) if rows else None


def read_trades(body: object) -> tuple[tuple[Trade, ...], tuple[str, ...]]:
    """The fills of a trade book, and a line for each row that cannot be read."""
    return _read_rows(body, _trade_of_row)


def read_positions(body: object, client_id: str = "") -> tuple[Position, ...]:
    """Net positions.  One unreadable row spoils the reading: a position unknown is not flat."""
    return _all_rows(body, lambda row: _position_of_row(row, client_id))


def read_holdings(body: object) -> tuple[Position, ...]:
    """Shares in the demat account, delivered and on their way, as CNC positions.

    Where Dhan names no exchange ("ALL"), the security id is that of NSE, wherever they were bought; nor does it
    tell which of them were bought on margin (MTF).
    """
    return _all_rows(body, _position_of_holding)


def read_funds(body: object) -> Funds:
    row = _lower(_unwrapped(body))
    # Dhan's own spelling, on the live service and the sandbox alike.
    spelling = "availabelbalance" if "availabelbalance" in row else "availablebalance"
    return Funds(start_of_day=_number(row.get("sodlimit"), "sodlimit"), available=_number(row.get(spelling), spelling))


def read_profile(body: object) -> Profile:
    row = _lower(_unwrapped(body))
    segments = row.get("activesegment")
    names = segments.split(",") if isinstance(segments, str) else []
    return Profile(
        client_id=_id(row, "dhanclientid"),
        token_valid_until=_validity_time(row.get("tokenvalidity")),
        segments=tuple(_segment_name(name.strip()) for name in names if name.strip()),
    )


def read_ip(body: object) -> IpSettings:
    """The static addresses; Dhan reports an error as a list in an answer with status 200."""
    body = _unwrapped(body)
    if isinstance(body, list) and body:
        raise FrameError(f"Dhan answers: {_text(_lower(body[0]), 'message') or 'an error'}")
    row = _lower(body)
    allowed = row.get("ordersallowed")
    return IpSettings(
        primary=_text(row, "primaryip"),
        secondary=_text(row, "secondaryip"),
        detected=_text(row, "detectedip"),
        match=_text(row, "ipmatchstatus"),
        orders_allowed=None if allowed is None else _flag(row, "ordersallowed"),
    )


def read_margin(body: object) -> Margin:
    row = _lower(_unwrapped(body))
    return Margin(
        total=_number(row.get("totalmargin"), "totalmargin"),
        insufficient=_money(row, "insufficientbalance"),
        brokerage=_money(row, "brokerage"),
    )


def _unwrapped(body: object) -> object:
    """The body without the `{status, data}` envelope that some answers come in; errors are refused."""
    if not isinstance(body, dict):
        return body
    row = _lower(body)
    if row.get("errorcode") or row.get("errormessage") or row.get("internalerrorcode"):
        raise FrameError("an error instead of data")
    if "status" in row and "data" in row:
        if _word(row, "status") != "SUCCESS":
            raise FrameError("an error instead of data")
        return row["data"]
    return body


def _rows(body: object) -> list[object]:
    body = _unwrapped(body)
    if not isinstance(body, list):
        raise FrameError("not a list")
    return body


def _read_rows(body: object, read: Callable[[Row], _RowT]) -> tuple[tuple[_RowT, ...], tuple[str, ...]]:
    good: list[_RowT] = []
    problems: list[str] = []
    for index, row in enumerate(_rows(body), 1):
        try:
            good.append(read(_lower(row)))
        except FrameError as error:
            problems.append(f"{_row_name(index, row)}: {error}")
    return tuple(good), tuple(problems)


def _row_name(index: int, row: object) -> str:
    order_id = _lower(row).get("orderid") if isinstance(row, dict) else None
    if isinstance(order_id, str) and _ID.fullmatch(order_id):
        return f"row {index} (order {order_id})"
    return f"row {index}"


def _all_rows(body: object, read: Callable[[Row], _RowT]) -> tuple[_RowT, ...]:
    good, problems = _read_rows(body, read)
    if problems:
        raise FrameError(problems[0])
    return good


_SIDE_NAMES = {side.value: side for side in Side}
_PRODUCT_NAMES = {product.value: product for product in Product}
_TYPE_NAMES = {order_type.value: order_type for order_type in OrderType}


def _row_security(row: Row) -> Security:
    segment = _word(row, "exchangesegment")
    if not _SEGMENT.fullmatch(segment):
        raise FrameError("exchangesegment is missing or unknown")
    return Security(segment, _id(row, "securityid"))


def _order_of_row(row: Row, client_id: str) -> Order:
    if client_id:
        _check_client(row, "dhanclientid", client_id)
    quantity, filled = _quantity(row, "quantity"), _quantity(row, "filledqty")
    _check_filled(filled, quantity)
    product = _code(_PRODUCT_NAMES, row, "producttype")
    status, is_leg = _frame_status({"status": row.get("orderstatus")})
    kind = OrderKind.SUPER if is_leg else _row_kind(row, product)
    after_market = kind is not OrderKind.FOREVER_CHILD and _flag(row, "aftermarketorder")
    ticket = Ticket(
        security=_row_security(row),
        side=_code(_SIDE_NAMES, row, "transactiontype"),
        product=product,
        order_type=_code(_TYPE_NAMES, row, "ordertype"),
        validity=_code(_VALIDITIES, row, "validity"),
        quantity=quantity,
        price=_price(row, "price"),
        trigger_price=_price(row, "triggerprice"),
        disclosed_quantity=_quantity(row, "disclosedquantity"),
        after_market=after_market,
        amo_time=_amo_time(row) if after_market else "",
    )
    return Order(
        order_id=_id(row, "orderid"),
        ticket=ticket,
        status=status,
        placed_at=_time(row, "createtime"),
        updated_at=_time(row, "updatetime"),
        filled_quantity=filled,
        average_price=_money(row, "averagetradedprice"),
        correlation_id=_correlation_id(row),
        kind=kind,
        platform=_text(row, "orderplatform"),
        # The description says CONFIRMED on healthy orders: only an ended one has a reason.
        note=_text(row, "omserrordescription") if status.is_dead else "",
    )


def _amo_time(row: Row) -> str:
    value = _word(row, "amotime")
    return value if value in ("PRE_OPEN", "OPEN", "OPEN_30", "OPEN_60") else ""


def _row_kind(row: Row, product: Product) -> OrderKind:
    if product is Product.BO:
        return OrderKind.BRACKET
    if product is Product.CO:
        return OrderKind.COVER
    if row.get("correlationid") == "NR":
        return OrderKind.FOREVER_CHILD
    if _word(row, "legname") in ("ENTRY_LEG", "TARGET_LEG", "STOP_LOSS_LEG"):
        return OrderKind.SUPER
    if "SQROFF" in _word(row, "correlationid"):
        return OrderKind.SUPER
    return OrderKind.ORDINARY


def _trade_of_row(row: Row) -> Trade:
    quantity = _quantity(row, "tradedquantity")
    if quantity < 1:
        raise FrameError("tradedquantity is missing or 0")
    times: Iterable[datetime | None] = (
        _time(row, "exchangetime"),
        _time(row, "updatetime"),
        _time(row, "createtime"),
    )
    return Trade(
        trade_id=_text(row, "exchangetradeid"),
        order_id=_id(row, "orderid"),
        security=_row_security(row),
        symbol=_text(row, "tradingsymbol") or _text(row, "customsymbol"),
        side=_code(_SIDE_NAMES, row, "transactiontype"),
        product=_code(_PRODUCT_NAMES, row, "producttype"),
        quantity=quantity,
        price=_price(row, "tradedprice"),
        traded_at=next((time for time in times if time is not None), None),
    )


def _position_of_row(row: Row, client_id: str) -> Position:
    if client_id and "dhanclientid" in row:
        _check_client(row, "dhanclientid", client_id)
    return Position(
        security=_row_security(row),
        product=_code(_PRODUCT_NAMES, row, "producttype"),
        net_quantity=_signed_quantity(row, "netqty"),
        buy_average=_money(row, "buyavg"),
        sell_average=_money(row, "sellavg"),
        realized=_money(row, "realizedprofit"),
        unrealized=_money(row, "unrealizedprofit"),
        multiplier=int(_money(row, "multiplier")) or 1,
    )


def _position_of_holding(row: Row) -> Position:
    return Position(
        security=Security(
            "BSE_EQ" if _word(row, "exchange") in ("BSE", "BSE_EQ") else "NSE_EQ", _id(row, "securityid")
        ),
        product=Product.CNC,
        net_quantity=_signed_quantity(row, "totalqty"),
        buy_average=_money(row, "avgcostprice"),
    )


def _validity_time(value: object) -> datetime | None:
    """`30/03/2025 15:37`, in IST."""
    if value is None or (isinstance(value, str) and value in _NO_TIME):
        return None
    try:
        return datetime.strptime(str(value), "%d/%m/%Y %H:%M").replace(tzinfo=IST)
    except ValueError:
        raise FrameError("tokenvalidity is not a time") from None


def _segment_name(name: str) -> str:
    """The live service abbreviates what the documentation spells out."""
    words = {"E": "Equity", "D": "Derivative", "C": "Currency", "M": "Commodity"}
    return printable(words.get(name, name), 30)
