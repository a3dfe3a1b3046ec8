"""Reads order-update frames: the order that a frame tells about.

Made after real frames, which differ from Dhan's documentation.  A frame about something else
raises `NotAnOrder`; one that cannot be read, or is about another client, `FrameError`.
Nothing here looks at REST answers.
"""

from __future__ import annotations

from copytrader.core.model import Order, OrderKind, OrderStatus, Product, Security, Ticket
from copytrader.dhan import codes, fields
from copytrader.dhan.fields import FrameError, Row
from copytrader.dhan.refusals import of_rejected

MAX_FRAME = 65_536
"""The longest frame that is looked at, in characters; a real one has about a thousand."""
MAX_NESTING = 64
_ORDER_KEYS = frozenset({"orderno", "status", "quantity", "txntype", "securityid"})
_KIND_OF_PRODUCT = {Product.BO: OrderKind.BRACKET, Product.CO: OrderKind.COVER}


class NotAnOrder(Exception):
    """A well-formed frame that is not about an order, such as a heartbeat."""


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
    return _order_of_frame(_frame_data(fields.parse_body(text)), client_id)


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
        raise NotAnOrder(f"a frame of type {fields.printable(str(kind), 30)!r}")
    data: object = frame.get("data") if kind or "data" in frame else frame
    if not isinstance(data, dict):
        raise FrameError("no Data object")
    if kind is None and not _ORDER_KEYS & data.keys():
        raise NotAnOrder("a frame without an order")
    return data


def _order_of_frame(row: Row, client_id: str) -> Order:
    fields.check_client(row, "clientid", client_id)
    quantity, filled = fields.quantity(row, "quantity"), fields.quantity(row, "tradedqty")
    fields.check_filled(filled, quantity)
    product = fields.code(codes.PRODUCTS, row, "product")
    status, is_leg = codes.order_status(row)
    kind = OrderKind.SUPER if is_leg else _frame_kind(row, product)
    ticket = Ticket(
        security=Security(_frame_segment(row), fields.identifier(row, "securityid")),
        side=fields.code(codes.SIDES, row, "txntype"),
        product=product,
        order_type=fields.code(codes.ORDER_TYPES, row, "ordertype"),
        validity=fields.code(codes.VALIDITIES, row, "validity"),
        quantity=quantity,
        price=fields.price(row, "price"),
        trigger_price=fields.price(row, "triggerprice"),
        disclosed_quantity=fields.quantity(row, "discquantity"),
        # A forever order's child bears offMktFlag "1" without being an after-market order.
        after_market=fields.flag(row, "offmktflag") and kind is not OrderKind.FOREVER_CHILD,
    )
    return Order(
        order_id=fields.identifier(row, "orderno"),
        ticket=ticket,
        status=status,
        placed_at=fields.time(row, "orderdatetime"),
        updated_at=fields.time(row, "lastupdatedtime"),
        filled_quantity=filled,
        average_price=fields.money(row, "avgtradedprice"),
        correlation_id=fields.correlation_id(row),
        kind=kind,
        platform=fields.text(row, "orderplatform"),
        last_price=fields.price(row, "refltp") or None,
        note=(note := fields.text(row, "reasondescription")),
        refusal=of_rejected(note) if status is OrderStatus.REJECTED else None,
    )


def _frame_segment(row: Row) -> str:
    segment = codes.exchange_segment(fields.word(row, "exchange"), fields.word(row, "segment"))
    if segment is None:
        raise FrameError("exchange and segment are missing or unknown")
    return segment


def _frame_kind(row: Row, product: Product) -> OrderKind:
    if product in _KIND_OF_PRODUCT:
        return _KIND_OF_PRODUCT[product]
    platform = fields.word(row, "orderplatform")
    if platform == "FOVR":
        return OrderKind.FOREVER_CHILD
    if (
        row.get("legno") in (2, 3, "2", "3")
        or "SUPER ORDER" in fields.word(row, "remarks")
        or "VTT" in platform
        or "SQROFF" in fields.word(row, "correlationid")
    ):
        return OrderKind.SUPER
    if row.get("algoordno") and row.get("correlationid") == "NR":
        return OrderKind.FOREVER_CHILD
    return OrderKind.ORDINARY
