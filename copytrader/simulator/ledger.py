"""What happened at the broker, row by row: the judge of every test.

Rows are only ever appended.  Tokens, PINs and one-time passwords never enter them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One thing that happened.

    `kind` is request, answer, login, accepted, pending, modified, modify_rejected, cancelled,
    filled, triggered, rejected or expired.  `body` is the request's JSON, `quantity` and
    `price` are the order's terms (of a fill: what filled and at which price).
    """

    seq: int
    at: datetime
    kind: str
    client_id: str = ""
    method: str = ""
    path: str = ""
    peer: str = ""
    answer_status: int = 0
    fault: str = ""
    body: Any = None
    order_id: str = ""
    correlation_id: str = ""
    platform: str = ""
    exchange_segment: str = ""
    security_id: str = ""
    side: str = ""
    product: str = ""
    order_type: str = ""
    validity: str = ""
    quantity: int = 0
    price: Decimal = Decimal(0)
    trigger_price: Decimal = Decimal(0)
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Violation:
    """A request that no well-behaved client sends."""

    at: datetime
    client_id: str
    method: str
    path: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in asdict(self).items()}


class Ledger:
    def __init__(self) -> None:
        self._rows: list[LedgerRow] = []

    def append(self, at: datetime, kind: str, **details: Any) -> None:
        self._rows.append(LedgerRow(len(self._rows) + 1, at, kind, **details))

    def __iter__(self) -> Iterator[LedgerRow]:
        return iter(tuple(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, **wanted: Any) -> list[LedgerRow]:
        """The rows whose named fields have these values: `where(kind="request", method="POST")`."""
        return [row for row in self._rows if all(getattr(row, key) == value for key, value in wanted.items())]


def parsed(body: bytes) -> Any:
    """A request's body for the ledger: its JSON, or its text when it is none."""
    if not body:
        return None
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
