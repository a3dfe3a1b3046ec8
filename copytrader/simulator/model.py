"""What the simulated broker keeps: instruments, accounts, orders and fills.

Prices are `Decimal` rupees, quantities `int` units, times aware (IST).  Instruments
and fills are values; an `Account` and a `BookOrder` change while the day goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

IST = timezone(timedelta(hours=5, minutes=30), "IST")
ZERO = Decimal(0)

TRANSIT = "TRANSIT"
PENDING = "PENDING"
PART_TRADED = "PART_TRADED"
TRADED = "TRADED"
REJECTED = "REJECTED"
CANCELLED = "CANCELLED"
EXPIRED = "EXPIRED"
ENDED = frozenset({TRADED, REJECTED, CANCELLED, EXPIRED})

Security = tuple[str, str]
"""Exchange segment and security id: an id means something only inside its segment."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """`freeze_quantity` is the master's SM_FREEZE_QTY: the first quantity that freezes, 0 for none.

    `tick_size` and the limits are in rupees; a limit of 0 means none.
    """

    exchange_segment: str
    security_id: str
    symbol: str
    lot_size: int = 1
    tick_size: Decimal = Decimal("0.05")
    freeze_quantity: int = 0
    lower_limit: Decimal = ZERO
    upper_limit: Decimal = ZERO
    underlying: str = ""
    underlying_security_id: str = ""
    instrument_type: str = "EQUITY"
    expiry: date | None = None
    strike: Decimal | None = None
    option_type: str = ""
    multiplier: int = 1
    display_name: str = ""
    isin: str = "NA"
    series: str = "XX"

    @property
    def security(self) -> Security:
        return (self.exchange_segment, self.security_id)

    @property
    def is_option(self) -> bool:
        return self.option_type in ("CE", "PE")

    @property
    def is_derivative(self) -> bool:
        return self.expiry is not None

    def cut_to_tick(self, price: Decimal) -> Decimal:
        return (price / self.tick_size).to_integral_value(ROUND_FLOOR) * self.tick_size

    def is_on_tick(self, price: Decimal) -> bool:
        return price % self.tick_size == 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a modification replaces."""

    order_type: str
    validity: str
    quantity: int
    price: Decimal = ZERO
    trigger_price: Decimal = ZERO
    disclosed_quantity: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """A placement as the broker understood it."""

    exchange_segment: str
    security_id: str
    side: str
    product: str
    terms: Terms
    correlation_id: str = ""
    after_market: bool = False

    @property
    def security(self) -> Security:
        return (self.exchange_segment, self.security_id)


@dataclass(frozen=True, slots=True)
class Holding:
    symbol: str
    security_id: str
    quantity: int
    average: Decimal
    isin: str = "NA"


@dataclass(frozen=True, slots=True)
class Carried:
    """A position brought from yesterday; the sign of `quantity` is its direction."""

    security: Security
    product: str
    quantity: int
    average: Decimal


@dataclass(frozen=True, slots=True)
class Fill:
    trade_id: str
    order_id: str
    at: datetime
    security: Security
    side: str
    product: str
    quantity: int
    price: Decimal


@dataclass(slots=True)
class Account:
    """One client of the broker.

    `fill_policy` is "cross" (an order fills when the last price allows it) or "manual" (only
    when scripted).  `allowed_peers` None lets orders come from any address.
    """

    client_id: str
    access_token: str = field(repr=False)
    funds: Decimal = Decimal(1_000_000)
    name: str = ""
    fill_policy: Literal["cross", "manual"] = "cross"
    check_margin: bool = False
    allowed_peers: tuple[str, ...] | None = None
    pin: str = field(default="1234", repr=False)
    totp_secret: str = field(default="", repr=False)
    token_expires_at: datetime | None = None
    token_source: str = "web"
    token_made_at: datetime | None = None
    dead_tokens: list[str] = field(default_factory=list, repr=False)
    holdings: list[Holding] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)


@dataclass(slots=True)
class BookOrder:
    """One order in the book, with everything that a row or a frame shows of it."""

    order_id: str
    client_id: str
    instrument: Instrument
    side: str
    product: str
    terms: Terms
    created_at: datetime
    """The book's createTime, which a cancel rewrites."""
    ordered_at: datetime
    """The frames' orderDateTime, which every modification rewrites."""
    updated_at: datetime
    exchange_at: datetime | None = None
    correlation_id: str = "NA"
    status: str = TRANSIT
    exchange_order_id: str = "0"
    filled: int = 0
    value: Decimal = ZERO
    last_fill_price: Decimal = ZERO
    after_market: bool = False
    off_market_flag: str = "0"
    source: str = "P"
    platform: str = "API"
    algo_id: str = "99999"
    algo_order_no: int | None = None
    leg_no: int = 1
    remarks: str = " "
    reason: str = ""
    triggered: bool = False
    modifications: int = 0
    reject_at_landing: str = ""
    reject_next_modification: str = ""
    hidden_from_lookup_until: datetime | None = None
    hidden_from_book_until: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED

    @property
    def open_quantity(self) -> int:
        return self.terms.quantity - self.filled if self.is_open else 0

    @property
    def average(self) -> Decimal:
        return self.value / self.filled if self.filled else ZERO

    @property
    def waits_for_trigger(self) -> bool:
        return self.terms.order_type.startswith("STOP_LOSS") and not self.triggered
