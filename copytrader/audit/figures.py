"""What the rows of one account come to: how many, how late, how much worse, and in money.

Money is reckoned in `Decimal`; a view's price is a number of few digits, which its shortest text gives exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from typing import Any

from copytrader.audit import positions
from copytrader.audit.words import UNKNOWN, Instruments, meaning
from copytrader.core.model import ZERO, RefusalClass, Security
from copytrader.dhan.refusals import explain

Row = Mapping[str, Any]
STAGES = ("decided", "durable", "sent", "answered", "filled", "total")
"""The legs of a placement's way: each from the end of the one before; total is frame to answer."""
_PAISA = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Spread:
    """How something is distributed, in milliseconds: half, 95 and 99 of a hundred are not above."""

    count: int
    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class SkipCount:
    reason: str
    count: int
    meaning: str


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """What the broker refused, in its own words, and what that means."""

    refusal: str
    count: int
    words: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FollowerReport:
    """One follower's figures.

    `placed` orders reached the broker; `filled` traded wholly or in part, `units` in all.  `unknown` are
    placements without a known fate at the end.  Slippage is positive where the follower did worse than the
    leader: `slippage` in rupees over all, `ticks` of the average unit.  `realized` is what closed copied
    positions brought, before charges.
    """

    name: str
    placed: int = 0
    entries: int = 0
    exits: int = 0
    modified: int = 0
    cancelled: int = 0
    filled: int = 0
    units: int = 0
    skipped: int = 0
    refused: int = 0
    unanswered: int = 0
    unknown: int = 0
    alerts: int = 0
    skips: tuple[SkipCount, ...] = ()
    refusals: tuple[RefusalCount, ...] = ()
    latency: dict[str, Spread] = field(default_factory=dict)
    slippage: Decimal = ZERO
    ticks: Decimal | None = None
    traded_value: Decimal = ZERO
    realized: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class LeaderReport:
    orders: int = 0
    modified: int = 0
    cancelled: int = 0
    rejected: int = 0
    filled: int = 0
    units: int = 0
    traded_value: Decimal = ZERO


def leader_report(orders: Sequence[Row], fills: Sequence[Row], known: Instruments) -> LeaderReport:
    statuses = Counter(row["status"] for row in orders)
    return LeaderReport(
        orders=len(orders),
        modified=sum(1 for row in orders if row["modified"]),
        cancelled=statuses["CANCELLED"],
        rejected=statuses["REJECTED"],
        filled=len({row["order_id"] for row in fills}),
        units=sum(row["quantity"] for row in fills),
        traded_value=rupees(_traded(fills, known)),
    )


def follower_report(
    name: str,
    copies: Sequence[Row],
    skips: Sequence[Row],
    fills: Sequence[Row],
    slippages: Sequence[Row],
    latencies: Sequence[Row],
    alerts: Sequence[Row],
    answers: Sequence[Row],
    *,
    unknown: int,
    realized: Decimal,
    known: Instruments,
) -> FollowerReport:
    reached = [row for row in copies if row["order_id"] is not None]
    refusals = _refusals(skips, answers)
    return FollowerReport(
        name=name,
        placed=len(reached),
        entries=sum(1 for row in reached if row["role"] == "ENTRY"),
        exits=sum(1 for row in reached if row["role"] == "EXIT"),
        modified=sum(1 for row in answers if (row["kind"], row["verb"]) == ("Accepted", "MODIFY")),
        cancelled=sum(1 for row in reached if row["status"] == "CANCELLED"),
        filled=len({row["correlation_id"] for row in fills}),
        units=sum(row["quantity"] for row in fills),
        skipped=len({row["leader_order_id"] for row in skips}),
        refused=sum(each.count for each in refusals),
        unanswered=sum(1 for row in answers if row["kind"] == "Unanswered"),
        unknown=unknown,
        alerts=len(alerts),
        skips=_skips(skips),
        refusals=refusals,
        latency=_latency(latencies),
        slippage=rupees(sum((exact(row["rupees"]) for row in slippages), ZERO)),
        ticks=_mean_ticks(slippages),
        traded_value=rupees(_traded(fills, known)),
        realized=rupees(realized),
    )


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return the distribution of what is known, None where nothing is."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None

    def rank(percent: int) -> float:
        return ordered[max(ceil(len(ordered) * percent / 100) - 1, 0)]

    return Spread(len(ordered), rank(50), rank(95), rank(99), ordered[-1])


def exact(value: float | str | None) -> Decimal:
    """Return a view's number as the decimal that it was."""
    return ZERO if value is None else Decimal(str(value))


def rupees(value: Decimal) -> Decimal:
    return value.quantize(_PAISA, ROUND_HALF_UP)


def _skips(rows: Sequence[Row]) -> tuple[SkipCount, ...]:
    counted = Counter(row["reason"] for row in rows)
    return tuple(SkipCount(reason, count, meaning(reason)) for reason, count in counted.most_common())


def _refusals(skips: Sequence[Row], answers: Sequence[Row]) -> tuple[RefusalCount, ...]:
    """Count the broker's refusals: of a placing the skip tells, also where it came later; of a change the answer."""
    said = [(row["refusal"], row["detail"]) for row in skips if row["refusal"]]
    said += [(row["reason"], row["message"]) for row in answers if row["kind"] == "Refused" and row["verb"] != "PLACE"]
    counted = Counter(refusal for refusal, _ in said)
    words = dict(said)
    return tuple(
        RefusalCount(refusal, count, words[refusal], _explained(refusal)) for refusal, count in counted.most_common()
    )


def _explained(refusal: str) -> str:
    try:
        return explain(RefusalClass(refusal))
    except ValueError:
        return UNKNOWN


def _latency(rows: Sequence[Row]) -> dict[str, Spread]:
    """Measure the placements that a frame of the leader's brought about and the broker took."""
    taken = [
        row for row in rows if row["verb"] == "PLACE" and row["event"] == "OrderSeen" and row["answer"] == "Accepted"
    ]
    spreads = {stage: spread(row[f"{stage}_ms"] for row in taken) for stage in STAGES}
    return {stage: found for stage, found in spreads.items() if found is not None}


def _mean_ticks(rows: Sequence[Row]) -> Decimal | None:
    """Average the ticks over the units, not over the orders."""
    weighed = [(exact(row["ticks"]), row["quantity"]) for row in rows if row["ticks"] is not None]
    units = sum(quantity for _, quantity in weighed)
    if not units:
        return None
    return rupees(sum((ticks * quantity for ticks, quantity in weighed), ZERO) / units)


def multiplier(security: Security, known: Instruments) -> int:
    found = known.get(security)
    return 1 if found is None else found.multiplier or 1


def _traded(fills: Sequence[Row], known: Instruments) -> Decimal:
    """Add up what each fill was worth; an average is turned back into the price of its last part."""
    total, before = ZERO, dict[str, Decimal]()
    for row in fills:
        worth = exact(row["average_price"]) * row["filled_quantity"]
        missed = row["filled_quantity"] - row["quantity"]
        part = worth - before.get(row["order_id"], exact(row["average_price"]) * missed)
        before[row["order_id"]] = worth
        total += part * multiplier(positions.security_of(row), known)
    return total
