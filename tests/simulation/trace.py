"""What happened in a run, line by line: the broker's ledger and the journal, by time."""

from __future__ import annotations

from collections.abc import Iterator

from copytrader.core.facts import Fact, OrderSeen, Started
from copytrader.core.model import LEADER
from copytrader.simulator import LedgerRow
from tests.simulation.world import START, World


def lines(world: World) -> Iterator[str]:
    rows = [((row.at - START).total_seconds(), 0, row.seq, _row(world, row)) for row in world.exchange.ledger]
    at = 0.0
    for seq, fact in world.judge.facts:
        at = (fact.at - START).total_seconds() if hasattr(fact, "at") else at
        rows.append((at, 1, seq, _fact(seq, fact)))
    for at, _, _, text in sorted(rows):
        if text:
            yield f"{at:9.3f} {text}"


def _row(world: World, row: LedgerRow) -> str:
    if row.kind == "answer":
        return f"    broker answers {row.client_id} {row.answer_status} {row.fault}" if row.method != "GET" else ""
    if row.kind == "request" and row.method == "GET":
        return ""
    who = next((name for name, client_id in world.client_ids.items() if client_id == row.client_id), row.client_id)
    terms = (
        f"{row.side} {row.quantity} {row.order_type} {row.price}/{row.trigger_price} {row.product} {row.security_id}"
    )
    name = row.correlation_id if row.correlation_id != "NA" else ""
    what = f"{row.method} {row.path}" if row.method else terms
    return f"    broker {who:7} {row.kind:12} {row.order_id} {name} {what} {row.text}"


def _fact(seq: int, fact: Fact) -> str:
    if isinstance(fact, Started):
        return f"{seq:5} Started"
    if isinstance(fact, OrderSeen):
        order = fact.order
        terms = f"{order.ticket.side} {order.ticket.quantity} at {order.ticket.price}, filled {order.filled_quantity}"
        who = fact.account if fact.account != LEADER else "LEADER"
        return f"{seq:5} OrderSeen {who} {order.order_id} {order.status} {terms} by {fact.source}"
    return f"{seq:5} {fact}".replace("datetime.timezone(datetime.timedelta(seconds=19800), 'IST')", "")[:600]
