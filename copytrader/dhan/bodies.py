"""Reads the JSON bodies of Dhan's REST answers: books, positions, funds, and what is known of an account.

Made after real books, which differ from Dhan's documentation.  What cannot be read raises `FrameError`,
or is a line beside the rows that can; a body that is an error is never read as an empty one.
Nothing here sends, or judges whether a command was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from copytrader.core.model import IST, Funds, Order, OrderKind, OrderStatus, Position, Product, Security, Side, Ticket
from copytrader.dhan import codes, fields
from copytrader.dhan.fields import FrameError, Row
from copytrader.dhan.refusals import of_rejected

_SEGMENT = re.compile(r"[A-Z_]{2,20}", re.ASCII)
_RowT = TypeVar("_RowT")
_NOT_TOLD = datetime.max.replace(tzinfo=IST)


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


def read_orders(body: object, client_id: str = "") -> tuple[tuple[Order, ...], tuple[str, ...]]:
    """The orders of a book as they were placed, and a line for each row that cannot be read.

    With a `client_id`, a row of another client is such a row too.
    """
    rows, problems = _read_rows(body, lambda row: _order_of_row(row, client_id))
    return _as_placed(rows), problems


def _as_placed(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """Put the oldest first: a stop loss comes after its entry, and nothing says which way Dhan lists a book.

    Times are whole seconds: within one, the way in which the whole book runs decides.
    """
    times = [each.placed_at for each in orders if each.placed_at is not None]
    listed = orders[::-1] if times and times[0] > times[-1] else orders
    return tuple(sorted(listed, key=lambda each: each.placed_at or _NOT_TOLD))


def read_order(body: object, client_id: str = "") -> Order | None:
    """The one order of a look-up, which Dhan sends as an object or as a list; None for `[]`."""
    body = _unwrapped(body)
    rows = body if isinstance(body, list) else [body]
    if len(rows) > 1:
        raise FrameError(f"{len(rows)} orders where one was asked for")
    return _order_of_row(fields.lower(rows[0]), client_id) if rows else None


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
    row = fields.lower(_unwrapped(body))
    # Dhan's own spelling, on the live service and the sandbox alike.
    spelling = "availabelbalance" if "availabelbalance" in row else "availablebalance"
    return Funds(
        start_of_day=fields.exact(row.get("sodlimit"), "sodlimit"), available=fields.exact(row.get(spelling), spelling)
    )


def read_profile(body: object) -> Profile:
    row = fields.lower(_unwrapped(body))
    segments = row.get("activesegment")
    names = segments.split(",") if isinstance(segments, str) else []
    return Profile(
        client_id=fields.identifier(row, "dhanclientid"),
        token_valid_until=_validity_time(row.get("tokenvalidity")),
        segments=tuple(_segment_name(name.strip()) for name in names if name.strip()),
    )


def read_ip(body: object) -> IpSettings:
    """The static addresses; Dhan reports an error as a list in an answer with status 200."""
    body = _unwrapped(body)
    if isinstance(body, list) and body:
        raise FrameError(f"Dhan answers: {fields.text(fields.lower(body[0]), 'message') or 'an error'}")
    row = fields.lower(body)
    allowed = row.get("ordersallowed")
    return IpSettings(
        primary=fields.text(row, "primaryip"),
        secondary=fields.text(row, "secondaryip"),
        detected=fields.text(row, "detectedip"),
        match=fields.text(row, "ipmatchstatus"),
        orders_allowed=None if allowed is None else fields.flag(row, "ordersallowed"),
    )


def read_margin(body: object) -> Margin:
    row = fields.lower(_unwrapped(body))
    return Margin(
        total=fields.exact(row.get("totalmargin"), "totalmargin"),
        insufficient=fields.money(row, "insufficientbalance"),
        brokerage=fields.money(row, "brokerage"),
    )


def _unwrapped(body: object) -> object:
    """The body without the `{status, data}` envelope that some answers come in; errors are refused."""
    if not isinstance(body, dict):
        return body
    row = fields.lower(body)
    if row.get("errorcode") or row.get("errormessage") or row.get("internalerrorcode"):
        raise FrameError("an error instead of data")
    if "status" in row and "data" in row:
        if fields.word(row, "status") != "SUCCESS":
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
            good.append(read(fields.lower(row)))
        except FrameError as error:
            problems.append(f"{_row_name(index, row)}: {error}")
    return tuple(good), tuple(problems)


def _row_name(index: int, row: object) -> str:
    order_id = fields.lower(row).get("orderid") if isinstance(row, dict) else None
    if isinstance(order_id, str) and fields.ID.fullmatch(order_id):
        return f"row {index} (order {order_id})"
    return f"row {index}"


def _all_rows(body: object, read: Callable[[Row], _RowT]) -> tuple[_RowT, ...]:
    good, problems = _read_rows(body, read)
    if problems:
        raise FrameError(problems[0])
    return good


def _row_security(row: Row) -> Security:
    segment = fields.word(row, "exchangesegment")
    if not _SEGMENT.fullmatch(segment):
        raise FrameError("exchangesegment is missing or unknown")
    return Security(segment, fields.identifier(row, "securityid"))


def _order_of_row(row: Row, client_id: str) -> Order:
    if client_id:
        fields.check_client(row, "dhanclientid", client_id)
    quantity, filled = fields.quantity(row, "quantity"), fields.quantity(row, "filledqty")
    fields.check_filled(filled, quantity)
    product = fields.code(codes.PRODUCT_NAMES, row, "producttype")
    status, is_leg = codes.order_status({"status": row.get("orderstatus")})
    kind = OrderKind.SUPER if is_leg else _row_kind(row, product)
    after_market = kind is not OrderKind.FOREVER_CHILD and fields.flag(row, "aftermarketorder")
    ticket = Ticket(
        security=_row_security(row),
        side=fields.code(codes.SIDE_NAMES, row, "transactiontype"),
        product=product,
        order_type=fields.code(codes.TYPE_NAMES, row, "ordertype"),
        validity=fields.code(codes.VALIDITIES, row, "validity"),
        quantity=quantity,
        price=fields.price(row, "price"),
        trigger_price=fields.price(row, "triggerprice"),
        disclosed_quantity=fields.quantity(row, "disclosedquantity"),
        after_market=after_market,
        amo_time=_amo_time(row) if after_market else "",
    )
    return Order(
        order_id=fields.identifier(row, "orderid"),
        ticket=ticket,
        status=status,
        placed_at=fields.time(row, "createtime"),
        updated_at=fields.time(row, "updatetime"),
        filled_quantity=filled,
        average_price=fields.money(row, "averagetradedprice"),
        correlation_id=fields.correlation_id(row),
        kind=kind,
        platform=fields.text(row, "orderplatform"),
        # The description says CONFIRMED on healthy orders: only an ended one has a reason.
        note=(note := fields.text(row, "omserrordescription") if status.is_dead else ""),
        refusal=of_rejected(note) if status is OrderStatus.REJECTED else None,
    )


def _amo_time(row: Row) -> str:
    value = fields.word(row, "amotime")
    return value if value in ("PRE_OPEN", "OPEN", "OPEN_30", "OPEN_60") else ""


def _row_kind(row: Row, product: Product) -> OrderKind:
    if product is Product.BO:
        return OrderKind.BRACKET
    if product is Product.CO:
        return OrderKind.COVER
    if row.get("correlationid") == "NR":
        return OrderKind.FOREVER_CHILD
    if fields.word(row, "legname") in ("ENTRY_LEG", "TARGET_LEG", "STOP_LOSS_LEG"):
        return OrderKind.SUPER
    if "SQROFF" in fields.word(row, "correlationid"):
        return OrderKind.SUPER
    return OrderKind.ORDINARY


def _trade_of_row(row: Row) -> Trade:
    quantity = fields.quantity(row, "tradedquantity")
    if quantity < 1:
        raise FrameError("tradedquantity is missing or 0")
    times: Iterable[datetime | None] = (
        fields.time(row, "exchangetime"),
        fields.time(row, "updatetime"),
        fields.time(row, "createtime"),
    )
    return Trade(
        trade_id=fields.text(row, "exchangetradeid"),
        order_id=fields.identifier(row, "orderid"),
        security=_row_security(row),
        symbol=fields.text(row, "tradingsymbol") or fields.text(row, "customsymbol"),
        side=fields.code(codes.SIDE_NAMES, row, "transactiontype"),
        product=fields.code(codes.PRODUCT_NAMES, row, "producttype"),
        quantity=quantity,
        price=fields.price(row, "tradedprice"),
        traded_at=next((time for time in times if time is not None), None),
    )


def _position_of_row(row: Row, client_id: str) -> Position:
    if client_id and "dhanclientid" in row:
        fields.check_client(row, "dhanclientid", client_id)
    return Position(
        security=_row_security(row),
        product=fields.code(codes.PRODUCT_NAMES, row, "producttype"),
        net_quantity=fields.signed_quantity(row, "netqty"),
        buy_average=fields.money(row, "buyavg"),
        sell_average=fields.money(row, "sellavg"),
        realized=fields.money(row, "realizedprofit"),
        unrealized=fields.money(row, "unrealizedprofit"),
        multiplier=int(fields.money(row, "multiplier")) or 1,
        day_bought=_day_quantity(row, "daybuyqty"),
        day_sold=_day_quantity(row, "daysellqty"),
    )


def _day_quantity(row: Row, key: str) -> int:
    """What was traded today, 0 where that cannot be read: known from documents only, it must not spoil a reading."""
    try:
        return abs(fields.signed_quantity(row, key))
    except FrameError:
        return 0


def _position_of_holding(row: Row) -> Position:
    return Position(
        security=Security(
            "BSE_EQ" if fields.word(row, "exchange") in ("BSE", "BSE_EQ") else "NSE_EQ",
            fields.identifier(row, "securityid"),
        ),
        product=Product.CNC,
        net_quantity=fields.signed_quantity(row, "totalqty"),
        buy_average=fields.money(row, "avgcostprice"),
    )


def _validity_time(value: object) -> datetime | None:
    """`30/03/2025 15:37`, in IST."""
    if value is None or (isinstance(value, str) and value in fields.NO_TIME):
        return None
    try:
        return datetime.strptime(str(value), "%d/%m/%Y %H:%M").replace(tzinfo=IST)
    except ValueError:
        raise FrameError("tokenvalidity is not a time") from None


def _segment_name(name: str) -> str:
    """The live service abbreviates what the documentation spells out."""
    words = {"E": "Equity", "D": "Derivative", "C": "Currency", "M": "Commodity"}
    return fields.printable(words.get(name, name), 30)
