"""The picture of one moment, as values: a row for each follower, instrument and product, and what is wrong with orders.

A book that could not be read is unknown, never flat.  What is the follower's own appears here
and never in the plan.  Nothing here compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from copytrader.core.copies import Key, Slice
from copytrader.core.model import Funds, Instrument, Order, Position, Security
from copytrader.core.state import Account, Holding, Share, State


class RowState(StrEnum):
    IN_SYNC = "in_sync"
    OWN = "own"
    PENDING = "pending"
    DRIFT = "drift"
    CLOSED_TWICE = "closed_twice"
    UNEXPLAINED = "unexplained"
    UNKNOWN = "unknown"


class FindingKind(StrEnum):
    """What can be wrong with an order, whatever the positions say; or with who is left out of the configuration."""

    NOT_COPIED = "not_copied"
    ORPHAN = "orphan"
    TERMS_DIFFER = "terms_differ"
    UNKNOWN_OUTCOME = "unknown_outcome"
    STRAY = "stray"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class Reading:
    """One account's books, read just now; a `problem` where they could not be, `refused` where for its token.

    Without `holdings` its positions do not show the shares in the demat account.
    """

    account: str
    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    funds: Funds | None = None
    problem: str = ""
    refused: bool = False
    holdings: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One follower, instrument and product; None is unknown.  Drift is what is held from copying beyond the target."""

    follower: str
    exchange_segment: str
    security_id: str
    symbol: str
    product: str
    leader_quantity: int | None
    target_quantity: int | None
    copied_quantity: int | None
    own_quantity: int | None
    drift_quantity: int | None
    state: RowState
    why: str
    lot_size: int | None = None
    drift_lots: Decimal | None = None
    last_price: Decimal | None = None
    drift_value: Decimal | None = None
    expiry: date | None = None

    @property
    def is_fine(self) -> bool:
        return self.state in (RowState.IN_SYNC, RowState.OWN)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with one order, or with all that a follower has who is left out."""

    follower: str
    kind: FindingKind
    symbol: str
    detail: str
    leader_order_id: str | None = None
    order_id: str | None = None
    correlation_id: str | None = None
    expiry: date | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the accounts is looked at; empty is everything."""

    followers: frozenset[str] = frozenset()
    symbol: str = ""

    def has(self, follower: str, security: Security, instrument: Instrument | None) -> bool:
        if self.followers and follower not in self.followers:
            return False
        if not self.symbol:
            return True
        names = [security.security_id]
        if instrument is not None:
            names += [instrument.symbol, instrument.label, instrument.underlying]
        return self.symbol.upper() in (name.upper() for name in names)


@dataclass(slots=True)
class Part:
    """One follower's part of one holding, with everything that led to its row; `copied` is what counts as held."""

    key: Key
    name: str
    holding: Holding
    account: Account
    share: Share
    instrument: Instrument | None
    row: Row
    copied: int = 0
    turned: int = 0
    need: int = 0
    coming: int = 0
    stuck: list[Slice] = field(default_factory=list)

    @property
    def lot(self) -> int:
        return self.instrument.lot_size if self.instrument is not None else 1

    @property
    def own(self) -> int:
        """What the follower holds beside what was copied; 0 where the broker does not show all."""
        return 0 if self.share.net is None else self.share.net - self.copied


@dataclass(frozen=True, slots=True)
class Picture:
    """All rows and findings of one moment.

    `problems` are the accounts that could not be read, `strays` the orders by follower that bear our prefix and
    that the journal does not know.
    """

    at: datetime
    state: State
    parts: tuple[Part, ...]
    blanks: tuple[Row, ...]
    findings: tuple[Finding, ...]
    problems: tuple[Reading, ...]
    strays: dict[str, tuple[Order, ...]]
    scope: Scope

    @property
    def rows(self) -> tuple[Row, ...]:
        return (*self.blanks, *(part.row for part in self.parts))

    @property
    def in_sync(self) -> bool:
        """Whether all is known and as it should be; a follower's own positions are its own affair."""
        return all(row.is_fine for row in self.rows) and not self.findings and not self.problems


def unread_reason(reading: Reading) -> str:
    return f"{reading.account}'s books could not be read: {reading.problem}"
