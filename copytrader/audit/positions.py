"""What a follower held from copying at some moment, from its fills.

A journal of years need not be gone through for it: the fills count since the last morning on which the broker
showed nothing held of what is asked for.  A dry run (`paper`: the seq of its `Started`) goes on from what was held
live when it began; live (0), no dry run counts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from copytrader.core.model import IST, ZERO, Security
from copytrader.journal import Journal
from copytrader.journal.rows import timestamp
from copytrader.journal.views import DRY_RUNS, on_paper


@dataclass(slots=True)
class Held:
    """A copied position while its fills are gone through, at its average price."""

    net: int = 0
    average: Decimal = ZERO

    def fill(self, sign: int, quantity: int, price: Decimal) -> Decimal:
        """Apply a fill; return what it realised."""
        closes = min(quantity, abs(self.net)) if self.net * sign < 0 else 0
        realized = (price - self.average) * closes * (1 if self.net > 0 else -1)
        kept, opens = abs(self.net + sign * closes), quantity - closes
        if opens:
            self.average = (self.average * kept + price * opens) / (kept + opens)
        self.net += sign * quantity
        return realized


def fills(
    journal: Journal, name: str, securities: Collection[Security], since: datetime, until: datetime, paper: int = 0
) -> list[Mapping[str, Any]]:
    """Return a follower's fills in some securities before `until`, as far back as a position at `since` comes from."""
    begin = _flat_since(journal, since, name, securities, paper)
    last = until - timedelta(microseconds=1)
    names, rows = journal.query(
        "SELECT * FROM fills WHERE day BETWEEN ? AND ? AND at >= ? AND at < ? AND follower = ? "
        "AND dry_run = (? > 0 AND seq > ?) ORDER BY seq",
        [begin[:10], f"{last.astimezone(IST):%Y-%m-%d}", begin, timestamp(until), name, paper, paper],
    )
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [row for row in found if security_of(row) in securities]


def security_of(row: Mapping[str, Any]) -> Security:
    return Security(row["exchange_segment"] or "", row["security_id"] or "")


def _flat_since(journal: Journal, since: datetime, name: str, securities: Collection[Security], paper: int) -> str:
    """Return the last morning, not after a day, on which the broker showed none of these held; "" where none was."""
    day: str | None = f"{since.astimezone(IST):%Y-%m-%d}"
    while day is not None:
        first = journal.query(
            f"WITH {DRY_RUNS} SELECT at, json_extract(body, '$.positions') FROM facts "  # noqa: S608  # constants
            "WHERE kind = 'BookRead' AND substr(at, 1, 10) = ? AND follower = ? "
            f"AND json_type(body, '$.positions') = 'array' AND {on_paper('facts')} IN (0, ?) ORDER BY seq LIMIT 1",
            [day, name, paper],
        )[1]
        if first and first[0][0] <= timestamp(since) and not _holds(first[0][1], securities):
            return str(first[0][0])
        day = journal.query("SELECT max(substr(at, 1, 10)) FROM facts WHERE substr(at, 1, 10) < ?", [day])[1][0][0]
    return ""


def _holds(positions: str, securities: Collection[Security]) -> bool:
    for each in json.loads(positions):
        security = Security(each["security"]["exchange_segment"], each["security"]["security_id"])
        if each["net_quantity"] and security in securities:
            return True
    return False
