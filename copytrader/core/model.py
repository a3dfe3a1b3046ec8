"""The words of the domain: orders, positions, instruments, followers and the desk.

Everything here is an immutable value.  Nothing here knows Dhan's wire format,
SQLite, the clock or the network.  Prices are `Decimal` in rupees, quantities are
`int` in units (not lots), times are aware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

IST = timezone(timedelta(hours=5, minutes=30), "IST")
LEADER = "leader"
"""The leader's account name in every fact; no follower may bear it."""
PREFIX = "ct1-"
"""What every correlation id of ours begins with; an order that bears it is never a leader order."""
ZERO = Decimal(0)
Units = int | Fraction
"""A quantity before it is rounded.  What is whole is an `int`, which is many times quicker than a `Fraction`."""
_MONTH = re.compile(r"-(?=[A-Z][a-z]{2}[0-9]{4})")


def day_of(at: datetime) -> date:
    """Return the Indian day of a moment."""
    return (at if at.tzinfo is IST else at.astimezone(IST)).date()


class Side(StrEnum):
    """`sign` is that of the position which a fill leads to: + is long."""

    BUY = "BUY"
    SELL = "SELL"

    sign: int

    def __init__(self, word: str) -> None:
        self.sign = 1 if word == "BUY" else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class Product(StrEnum):
    CNC = "CNC"
    INTRADAY = "INTRADAY"
    MARGIN = "MARGIN"
    MTF = "MTF"
    CO = "CO"
    BO = "BO"


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_MARKET = "STOP_LOSS_MARKET"


class Validity(StrEnum):
    DAY = "DAY"
    IOC = "IOC"


class OrderStatus(StrEnum):
    """Dhan's statuses, of the order book and of the stream, upper-cased.

    MODIFIED, MOD_REJECTED and TRIGGERED are what a frame announces, not states an
    order rests in: `merge` folds them into PENDING or PART_TRADED.
    """

    TRANSIT = "TRANSIT"
    PENDING = "PENDING"
    PART_TRADED = "PART_TRADED"
    TRADED = "TRADED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    MODIFIED = "MODIFIED"
    MOD_REJECTED = "MOD_REJECTED"
    TRIGGERED = "TRIGGERED"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL

    @property
    def is_dead(self) -> bool:
        """The order ended without (further) trading."""
        return self in DEAD


DEAD = frozenset({OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.EXPIRED})
_TERMINAL = DEAD | {OrderStatus.TRADED}


class OrderKind(StrEnum):
    """What made the order.

    What one that is not copied opens is the leader's own, like what it held before copying.
    """

    ORDINARY = "ORDINARY"
    FOREVER_CHILD = "FOREVER_CHILD"
    SUPER = "SUPER"
    BRACKET = "BRACKET"
    COVER = "COVER"

    @property
    def is_copied(self) -> bool:
        return self in (OrderKind.ORDINARY, OrderKind.FOREVER_CHILD)


class SkipReason(StrEnum):
    """Why an order was not copied: a closed list."""

    STALE = "STALE"
    FILTERED = "FILTERED"
    BELOW_ONE_LOT = "BELOW_ONE_LOT"
    NOTHING_TO_EXIT = "NOTHING_TO_EXIT"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    UNSUPPORTED_KIND = "UNSUPPORTED_KIND"
    OWN_COPY = "OWN_COPY"
    LEADER_DONE = "LEADER_DONE"
    HALTED = "HALTED"
    DETACHED = "DETACHED"
    MARKET_CLOSED = "MARKET_CLOSED"
    LIMIT_ORDER_VALUE = "LIMIT_ORDER_VALUE"
    LIMIT_ORDER_LOTS = "LIMIT_ORDER_LOTS"
    LIMIT_POSITION_LOTS = "LIMIT_POSITION_LOTS"
    LIMIT_OPEN_POSITIONS = "LIMIT_OPEN_POSITIONS"
    LIMIT_DAILY_LOSS = "LIMIT_DAILY_LOSS"
    LIMIT_ORDERS_PER_MINUTE = "LIMIT_ORDERS_PER_MINUTE"
    RATE_BUDGET = "RATE_BUDGET"
    INSUFFICIENT_MARGIN = "INSUFFICIENT_MARGIN"
    PRICE_BAND = "PRICE_BAND"
    BAD_TERMS = "BAD_TERMS"
    TOKEN = "TOKEN"
    ABSENT = "ABSENT"
    REFUSED = "REFUSED"


class RefusalClass(StrEnum):
    """What a broker's refusal is about, as far as its words tell."""

    MARGIN = "MARGIN"
    FREEZE = "FREEZE"
    PRICE_BAND = "PRICE_BAND"
    LOT = "LOT"
    TICK = "TICK"
    HOURS = "HOURS"
    PRODUCT = "PRODUCT"
    TOKEN = "TOKEN"
    IP = "IP"
    RATE = "RATE"
    TRANSIT = "TRANSIT"
    ENDED = "ENDED"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Security:
    """What is traded: Dhan's exchange segment and security id (unique only together)."""

    exchange_segment: str
    security_id: str

    def __hash__(self) -> int:
        return hash(self.security_id)  # every look at a position comes through here; segments share few ids


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the instrument master.

    `tick_size` and price limits are in rupees.  `freeze_quantity` is the largest
    quantity of one order in units, 0 where there is none.  `multiplier` turns price x
    quantity into rupees; None means that nobody told us.
    """

    security: Security
    symbol: str
    lot_size: int
    tick_size: Decimal
    freeze_quantity: int = 0
    multiplier: int | None = 1
    underlying: str = ""
    instrument_type: str = ""
    expiry: date | None = None
    strike: Decimal | None = None
    option_type: str = ""
    lower_limit: Decimal | None = None
    upper_limit: Decimal | None = None
    master_date: date | None = None

    @property
    def label(self) -> str:
        return label(self.symbol, self.expiry)


def label(symbol: str, expiry: date | None) -> str:
    """Name an instrument to a person: Dhan's symbol has the month of an expiry, and a month has several."""
    if expiry is None or {f"{expiry:%d}", str(expiry.day)} & set(symbol.split()):
        return symbol
    dated, found = _MONTH.subn(f"-{expiry:%d}", symbol, count=1)
    return dated if found else f"{symbol} {expiry:%d%b%Y}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The terms of an order: what a trader fills in before pressing BUY or SELL."""

    security: Security
    side: Side
    product: Product
    order_type: OrderType
    validity: Validity
    quantity: int
    price: Decimal = ZERO
    trigger_price: Decimal = ZERO
    disclosed_quantity: int = 0
    after_market: bool = False
    amo_time: str = ""

    def resized(self, quantity: int, disclosed_quantity: int) -> Ticket:
        """Return the same terms for another quantity."""
        return Ticket(  # field by field: `replace` takes twice as long, and each follower's order comes through here
            self.security,
            self.side,
            self.product,
            self.order_type,
            self.validity,
            quantity,
            self.price,
            self.trigger_price,
            disclosed_quantity,
            self.after_market,
            self.amo_time,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the broker described it once, on the stream or in a book.

    `filled_quantity` is cumulative.  `updated_at` is None where the broker gave no
    time.  `last_price` is the last traded price of the instrument at that moment
    (the stream's refLtp), None where unknown.  `note` is the broker's text, `refusal` what it
    is about where the order was rejected.
    """

    order_id: str
    ticket: Ticket
    status: OrderStatus
    placed_at: datetime | None = None
    updated_at: datetime | None = None
    filled_quantity: int = 0
    average_price: Decimal = ZERO
    correlation_id: str = ""
    kind: OrderKind = OrderKind.ORDINARY
    platform: str = ""
    last_price: Decimal | None = None
    note: str = ""
    refusal: RefusalClass | None = None

    @property
    def is_ours(self) -> bool:
        return self.correlation_id.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Position:
    """Net quantity per security and product; sign + is long.

    `day_bought` and `day_sold` are what of it was traded today, in units; 0 also where that is not told.
    Not `whole` where it is the day's alone: shares that were carried over may be held beside it.
    """

    security: Security
    product: Product
    net_quantity: int
    buy_average: Decimal = ZERO
    sell_average: Decimal = ZERO
    realized: Decimal = ZERO
    unrealized: Decimal = ZERO
    multiplier: int = 1
    whole: bool = True
    day_bought: int = 0
    day_sold: int = 0


@dataclass(frozen=True, slots=True)
class Funds:
    """`start_of_day` is Dhan's sodLimit, `available` its availabelBalance, in rupees."""

    start_of_day: Decimal
    available: Decimal


class SizingMode(StrEnum):
    RATIO = "ratio"
    CAPITAL = "capital"
    LOTS = "lots"
    RISK = "risk"


@dataclass(frozen=True, slots=True)
class Sizing:
    mode: SizingMode = SizingMode.RATIO
    ratio: Decimal = Decimal(1)
    lots: int = 0
    risk_percent: Decimal = ZERO
    adverse_move_percent: Decimal = Decimal(5)
    capital: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """None means no limit of that kind."""

    max_order_value: Decimal | None = None
    max_order_lots: int | None = None
    max_position_lots: int | None = None
    max_open_positions: int | None = None
    max_daily_loss: Decimal | None = None
    max_orders_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """What a follower's entries are restricted to; an empty tuple restricts nothing."""

    segments: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()
    underlyings: tuple[str, ...] = ()
    exclude_underlyings: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()


@dataclass(frozen=True, slots=True)
class Follower:
    name: str
    client_id: str
    sizing: Sizing = field(default_factory=Sizing)
    limits: Limits = field(default_factory=Limits)
    filter: Filter = field(default_factory=Filter)


class LateExits(StrEnum):
    MARKET = "market"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Session:
    """Continuous trading of one exchange segment on one kind of day, in IST minutes after midnight."""

    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """When each segment trades.  A year outside `years` is unknown, which is an alarm, not a holiday.

    `sessions` maps an exchange segment to its usual session; `special` maps (segment, ISO
    date) to that day's session, None for a closed day.  Weekends are closed unless special.
    """

    sessions: dict[str, Session] = field(default_factory=dict)
    special: dict[str, Session | None] = field(default_factory=dict)
    years: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyRules:
    max_age_seconds: int = 10
    late_exits: LateExits = LateExits.MARKET
    enforce_hours: bool = True
    market_wait_seconds: int = 5
    stop_limit_percent: Decimal = Decimal(5)
    reprice_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """The rules in force: whom we copy, to whom, and how."""

    leader_client_id: str
    followers: tuple[Follower, ...]
    rules: CopyRules = field(default_factory=CopyRules)
    calendar: Calendar = field(default_factory=Calendar)
