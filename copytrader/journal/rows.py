"""What the journal's columns say about a fact, beside its body, so that it can be found."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from copytrader.core.facts import Fact, OrderSeen, Refused, Skip, TokenRefused
from copytrader.core.model import IST, LEADER
from copytrader.journal.codec import CodecError, decode
from copytrader.journal.errors import JournalError

COLUMNS = "SELECT seq, cause, at, kind, follower, leader_order_id, order_id, correlation_id, reason, body, hash "
"""The beginning of every query whose rows become a `Row`."""
INSERT = """
INSERT INTO facts (seq, cause, at, kind, follower, leader_order_id, order_id, correlation_id, reason, body, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


BY_ITSELF = ("BookRead", "Connected", "Disconnected", "Ticked")
"""Kinds of facts that a copier records of itself, also in a night and on a day on which nothing happens."""


class Row(NamedTuple):
    """One fact as it stands in the journal; what does not apply is None."""

    seq: int
    cause: int | None
    at: str
    kind: str
    follower: str | None
    leader_order_id: str | None
    order_id: str | None
    correlation_id: str | None
    reason: str | None
    body: str
    hash: str

    @property
    def fact(self) -> Fact:
        """The fact itself, read from the body anew each time."""
        try:
            return decode(self.kind, self.body)
        except CodecError as error:
            raise JournalError(f"fact {self.seq} cannot be read: {error}") from error

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)


Names = tuple[str | None, str | None, str | None, str | None, str | None]
"""The names by which a fact is found: follower, leader_order_id, order_id, correlation_id, reason."""
_REASONS = {Skip: "reason", Refused: "refusal", TokenRefused: "refusal"}
"""Where a fact says why, by its kind."""


def timestamp(at: datetime) -> str:
    """Return a time as the journal writes it: Indian time, always 32 characters, so that text sorts as time does."""
    if at.tzinfo is None:
        raise ValueError(f"a fact's time needs a zone: {at.isoformat()}")
    return at.astimezone(IST).isoformat(timespec="microseconds")


def day_bounds(day: date) -> tuple[str, str]:
    """Return the first moment of an Indian day, and of the next."""
    midnight = datetime.combine(day, time(), IST)
    return timestamp(midnight), timestamp(midnight + timedelta(days=1))


def names(fact: Fact) -> Names:
    account = getattr(fact, "account", None)
    follower = None if account is None or account == LEADER else _text(account)
    if isinstance(fact, OrderSeen):
        order_id = _text(fact.order.order_id)
        return follower, None if follower else order_id, order_id, _text(fact.order.correlation_id), None
    where = _REASONS.get(type(fact))
    return (
        follower,
        _text(getattr(fact, "leader_order_id", "")),
        _text(getattr(fact, "order_id", "")),
        _text(getattr(fact, "correlation_id", "")),
        getattr(fact, where).value if where else None,
    )


def _text(text: str) -> str | None:
    """Return what SQLite can hold of a broker's text: half a character becomes its number."""
    if not text:
        return None
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
