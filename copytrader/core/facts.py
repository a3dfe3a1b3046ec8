"""What is recorded: events (what happened) and decisions (what the engine wants).

Both are facts.  Each is one immutable value, one row of the journal.  An event
carries its own time `at` (aware); the engine reads no clock.  `account` is
`model.LEADER` or a follower's name.  Events are in the past tense, commands in the
imperative.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from copytrader.core.model import (
    ZERO,
    Desk,
    Funds,
    Instrument,
    Order,
    OrderStatus,
    Position,
    RefusalClass,
    Side,
    SkipReason,
    Ticket,
)


class Verb(StrEnum):
    PLACE = "PLACE"
    MODIFY = "MODIFY"
    CANCEL = "CANCEL"


class Source(StrEnum):
    """Where we saw an order."""

    STREAM = "STREAM"
    BOOK = "BOOK"
    LOOKUP = "LOOKUP"


class Level(StrEnum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


# --- Events: what happened ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A process took over: what was being sent is unknown from here on, and no book is read yet.

    A dry run's facts never enter the state of a live one.  A process that is not `copying` came to carry
    out the operator's word: it cancels, and places what a plan or a flattening asks for, and nothing else.
    """

    at: datetime
    version: str
    config_digest: str
    desk: Desk
    dry_run: bool = False
    copying: bool = True


@dataclass(frozen=True, slots=True)
class Stopped:
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class InstrumentRead:
    """The master's row for an instrument, recorded before the first order that needs it."""

    at: datetime
    instrument: Instrument


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """The broker told us about one order.  `raw` is the frame as it came, bounded."""

    at: datetime
    account: str
    order: Order
    source: Source
    raw: str = ""


@dataclass(frozen=True, slots=True)
class BookRead:
    """An order book was read wholly; `orders` are the rows that changed since the last reading.

    `positions` and `funds` are None where they were not asked for or could not be
    read: unknown, never flat.  When given, they agree with the book (nothing was
    filled between the readings).  Without `holdings` the shares in the demat account
    could not be read, and are unknown.
    """

    at: datetime
    account: str
    orders: tuple[Order, ...]
    positions: tuple[Position, ...] | None = None
    funds: Funds | None = None
    holdings: bool = True


@dataclass(frozen=True, slots=True)
class NotFound:
    """The order book and the look-up by correlation id were both read, and neither knows the order."""

    at: datetime
    account: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Sending:
    """When a command was decided, when its decision was durable, when its request was handed to the network."""

    decided: datetime
    durable: datetime
    sent: datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker took the command.  `status` is what it said of the order then."""

    at: datetime
    account: str
    correlation_id: str
    verb: Verb
    order_id: str
    status: OrderStatus | None = None
    times: Sending | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker said no, and the order was not placed (or not modified, not cancelled)."""

    at: datetime
    account: str
    correlation_id: str
    verb: Verb
    refusal: RefusalClass
    code: str
    message: str
    order_id: str = ""
    times: Sending | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """The broker's rate limiter refused the request before anything else looked at it."""

    at: datetime
    account: str
    correlation_id: str
    verb: Verb
    detail: str = ""
    times: Sending | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer that proves anything: the command may or may not have taken effect."""

    at: datetime
    account: str
    correlation_id: str
    verb: Verb
    detail: str = ""
    times: Sending | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request provably never left: no connection, or our own guard refused it."""

    at: datetime
    account: str
    correlation_id: str
    verb: Verb
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Connected:
    """The order-update stream of an account is logged in."""

    at: datetime
    account: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    at: datetime
    account: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrameRefused:
    """A frame that could not be read: recorded, counted, never acted upon."""

    at: datetime
    account: str
    detail: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The broker does not accept the account's token (or its address); entries stop."""

    at: datetime
    account: str
    refusal: RefusalClass
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TokenRenewed:
    """The account's token was checked and works (again)."""

    at: datetime
    account: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """The shell found something that the user has to know and that no order shows: a token about to expire."""

    at: datetime
    level: Level
    text: str
    account: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed that somebody waited for."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Halted:
    """The operator's word: stop.  `account` None means every follower."""

    at: datetime
    account: str | None = None
    flatten: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    at: datetime
    account: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The operator's word: these orders with our prefix are ours, though the journal did not know them."""

    at: datetime
    account: str
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class FixOrdered:
    """The operator's word: carry out these tickets of a reconcile plan for one follower.

    Each ticket is named for the plan and its place in it, so that the same plan ordered twice is
    carried out once.  The first `exits` tickets only reduce; `cancels` are order ids.  A plan that was
    made (`planned_at`) a while before it is heard is not carried out.
    """

    at: datetime
    account: str
    plan_id: str
    tickets: tuple[Ticket, ...]
    cancels: tuple[str, ...] = ()
    exits: int = 0
    planned_at: datetime | None = None


Event = (
    Started
    | Stopped
    | InstrumentRead
    | OrderSeen
    | BookRead
    | NotFound
    | Accepted
    | Refused
    | Throttled
    | Unanswered
    | NotSent
    | Connected
    | Disconnected
    | FrameRefused
    | TokenRefused
    | TokenRenewed
    | Noticed
    | Ticked
    | Halted
    | Resumed
    | Adopted
    | FixOrdered
)

# --- Decisions: what the engine wants ----------------------------------------------


class Role(StrEnum):
    """Why an order of ours exists: it opens or adds, it closes or reduces."""

    ENTRY = "ENTRY"
    EXIT = "EXIT"


@dataclass(frozen=True, slots=True)
class Sized:
    """What one follower should have of one leader order, and the numbers that led there.

    `lots` answer the `opens` units with which the leader's order opens; `exact` its lots before
    rounding down and `carry` what is left for the next entry on `carry_side`.
    """

    account: str
    leader_order_id: str
    lots: int
    opens: int
    exact: Decimal
    carry: Decimal
    carry_side: Side
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """`opens` is the part of the quantity that opens or adds; the rest, which trades first, closes."""

    account: str
    leader_order_id: str
    correlation_id: str
    ticket: Ticket
    role: Role
    generation: int = 0
    sweep: bool = False
    why: str = ""
    opens: int = 0


@dataclass(frozen=True, slots=True)
class Modify:
    account: str
    leader_order_id: str
    correlation_id: str
    order_id: str
    ticket: Ticket
    why: str = ""
    opens: int = 0


@dataclass(frozen=True, slots=True)
class Divided:
    """Another part of a working order opens than was asked for, because the leader's position is another now.

    Its terms are the same, so that the broker is told nothing.
    """

    account: str
    leader_order_id: str
    correlation_id: str
    opens: int


@dataclass(frozen=True, slots=True)
class Cancel:
    account: str
    leader_order_id: str
    correlation_id: str
    order_id: str
    renew: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """Not copied, or not further; `detail` gives the numbers that led to it."""

    account: str
    leader_order_id: str
    reason: SkipReason
    detail: str = ""
    correlation_id: str = ""
    refusal: RefusalClass | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """A leader's or follower's order traded: how much in all, at which average.

    For a follower's order `leader_price` is the leader's average then (0 while unknown).
    """

    account: str
    leader_order_id: str
    order_id: str
    correlation_id: str
    quantity: int
    filled_quantity: int
    average_price: Decimal
    leader_price: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Ended:
    """A copy's order is closed at the broker."""

    account: str
    leader_order_id: str
    order_id: str
    correlation_id: str
    status: OrderStatus
    filled_quantity: int


@dataclass(frozen=True, slots=True)
class Alert:
    level: Level
    text: str
    account: str | None = None
    key: str = ""


Command = Place | Modify | Cancel
Decision = Sized | Command | Divided | Skip | Filled | Ended | Alert
Fact = Event | Decision
