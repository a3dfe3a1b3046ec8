"""One line of plain words for each thing worth telling: what `follow` prints where there is no screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from copytrader.core.copies import Slice
from copytrader.core.facts import (
    Alert,
    Cancel,
    Connected,
    Decision,
    Disconnected,
    Ended,
    Event,
    Filled,
    Halted,
    Modify,
    OrderSeen,
    Place,
    Resumed,
    Skip,
    Unanswered,
)
from copytrader.core.model import LEADER, OrderStatus, OrderType, Ticket
from copytrader.core.state import State

PAPER = "DRY"
"""What the id of every order begins with that is on paper only."""
_PAISA = Decimal("0.01")
_WORTH = {
    OrderStatus.PENDING: "placed",
    OrderStatus.MODIFIED: "modified",
    OrderStatus.CANCELLED: "cancelled",
    OrderStatus.REJECTED: "rejected",
    OrderStatus.TRIGGERED: "triggered",
    OrderStatus.MOD_REJECTED: "was refused a modification of",
    OrderStatus.EXPIRED: "saw expire",
}


def lines(event: Event, decisions: Sequence[Decision], state: State) -> Iterator[str]:
    """Tell an event and what was decided on it, without times and without colour."""
    told = _event(event, state)
    if told:
        yield told
    for decision in without_echoes(decisions):
        told = _decision(decision, state)
        if told:
            yield told


def without_echoes(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Leave out alerts that say of one follower, word for word, what was said of another."""
    said = set[str]()
    for decision in decisions:
        if not isinstance(decision, Alert):
            yield decision
        elif decision.text not in said:
            said.add(decision.text)
            yield decision


def _event(event: Event, state: State) -> str:
    match event:
        case OrderSeen(account=account, order=order) if account == LEADER and order.status in _WORTH:
            return f"leader {_WORTH[order.status]} {terms(order.ticket, state)} (order {order.order_id})"
        case Connected(account=account):
            return f"{account}: order stream connected"
        case Disconnected(account=account, detail=detail):
            return f"{account}: order stream lost: {detail}"
        case Unanswered(account=account, verb=verb, detail=detail):
            return f"{account}: {verb.lower()} not answered: {detail}; looking it up"
        case Halted(account=account, flatten=flatten):
            closed = ", what is held from copying is closed" if flatten else ""
            return f"halted for {account or 'every follower'}{closed}"
        case Resumed(account=account):
            return f"resumed for {account or 'every follower'}"
        case _:
            return ""


def _decision(decision: Decision, state: State) -> str:
    match decision:
        case Place(account=account, ticket=ticket):
            return f"  {account}: place {terms(ticket, state)}"
        case Modify(account=account, ticket=ticket, order_id=order_id):
            return f"  {account}: modify {order_id} to {terms(ticket, state)}"
        case Cancel(account=account, order_id=order_id):
            return f"  {account}: cancel {order_id}"
        case Skip(leader_order_id=order_id) if order_id in state.orders:
            return f"  {skipped(decision, state)} (order {order_id})"
        case Skip():
            return f"  {skipped(decision, state)}"
        case Filled(account=account) as filled:
            who = "leader" if account == LEADER else f"  {account}"
            return f"{who}: filled {filled.filled_quantity} at {price(filled.average_price)} (order {filled.order_id})"
        case Ended(status=status) if status is not OrderStatus.TRADED:
            return f"  {decision.account}: order {decision.order_id} is {status.lower()}"
        case Alert(level=level, text=text):
            return f"{level}: {text}"
        case _:
            return ""


def skipped(skip: Skip, state: State) -> str:
    """Say what one follower does not get and why: the leader's order by its terms, an unknown one by its id.

    Where none stands behind it, as with a sweep, it is our own order.
    """
    order, piece = state.orders.get(skip.leader_order_id), state.slices.get(skip.correlation_id)
    what = f"order {skip.leader_order_id}"
    if order is not None:
        what = terms(order.known.ticket, state)
    elif piece is not None:
        what = terms(piece.asked, state)
    return f"{skip.account}: not copied, {skip.reason}: {what}: {skip.detail}"


def halted(state: State) -> str:
    """Say which followers get no entry before the operator's word; nothing where all get theirs."""
    served = [each.name for each in state.desk.followers] if state.desk is not None else []
    names = [name for name in served if state.accounts[name].halted]
    return f"halted: {', '.join(names)}: no entry is copied there until `copytrader resume`" if names else ""


def left_open(state: State) -> Iterator[str]:
    """Tell what stays behind when nobody copies any more: each follower's open orders and copied positions.

    Of a dry run that is only what a live one left at the broker; `left_on_paper` tells the rest.
    """
    return _left(state, paper=False)


def left_on_paper(state: State) -> Iterator[str]:
    """Tell what a dry run had: its open orders, and positions with whatever was copied live before it."""
    return _left(state, paper=True) if state.dry_run else iter(())


def _left(state: State, *, paper: bool) -> Iterator[str]:
    for name, account in state.accounts.items():
        for piece in account.open.values():
            if paper is not (state.dry_run and (not piece.order_id or piece.order_id.startswith(PAPER))):
                continue
            yield f"{name}: open: {working(piece, state)}"
        if paper is not state.dry_run:
            continue
        for key, holding in state.holdings.items():
            share = holding.shares.get(name)
            if share is not None and share.left:
                yield f"{name}: holds {share.left:+} {state.named(key.security)} {key.product} from copying"


def working(piece: Slice, state: State) -> str:
    """Say an open order of ours: its terms, its name, and what is known of it."""
    order = f"order {piece.order_id}" if piece.order_id else piece.correlation_id
    filled = f", {piece.filled} filled" if piece.filled else ""
    unknown = ", not known whether it exists" if piece.unknown else ""
    return f"{terms(piece.asked, state)} ({order}{filled}{unknown})"


def terms(ticket: Ticket, state: State) -> str:
    """Say an order's terms as a trader would: BUY 75 NIFTY … LIMIT 186.00."""
    text = f"{ticket.side} {ticket.quantity} {state.named(ticket.security)} {ticket.order_type}"
    if ticket.order_type is not OrderType.MARKET:
        text += f" {price(ticket.price)}"
    if ticket.trigger_price:
        text += f" trigger {price(ticket.trigger_price)}"
    return text


def price(amount: Decimal) -> str:
    """Say a price alike wherever it came from: 107, never 107.0, and an average to the paisa."""
    return f"{amount.quantize(_PAISA).normalize():f}"
