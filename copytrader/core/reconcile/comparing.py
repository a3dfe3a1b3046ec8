"""Takes the picture: what the sizing rules make of the leader's position, beside what each follower holds from copying.

It is taken from fresh books, folded into a copy of the state; the state passed in stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import copied_position, exposure, limits, sizing, targets
from copytrader.core.copies import Key, Slice
from copytrader.core.facts import BookRead, InstrumentRead, Started
from copytrader.core.fold import evolve
from copytrader.core.model import LEADER, Desk, Instrument, OrderType, Security, Side, Ticket, Units, Validity
from copytrader.core.reconcile.evidence import Evidence, gathered, is_lost, strays_of, unaccounted, unread_of
from copytrader.core.reconcile.findings import findings_of, left_out_of
from copytrader.core.reconcile.picture import Part, Picture, Reading, Row, RowState, Scope, unread_reason
from copytrader.core.reconcile.reasons import why
from copytrader.core.state import Holding, Share, State

STUCK_AFTER = timedelta(seconds=10)
"""A copy still open this long after its leader order is over will not get there by itself."""


def with_books(
    state: State, desk: Desk, readings: Iterable[Reading], instruments: Mapping[Security, Instrument], at: datetime
) -> State:
    """Return a copy of the state with fresh books folded in; the one passed stays as it is."""
    fresh = state.copy()
    evolve(fresh, Started(at, "", "", desk, copying=False), at)
    for security, instrument in instruments.items():
        if security not in fresh.instruments:
            evolve(fresh, InstrumentRead(at, instrument), at)
    for reading in readings:
        fold(fresh, reading, at)
    return fresh


def fold(fresh: State, reading: Reading, at: datetime) -> None:
    """Fold one more reading into such a copy."""
    if not reading.problem:
        orders, positions = reading.orders, reading.positions
        evolve(fresh, BookRead(at, reading.account, orders, positions, reading.funds, reading.holdings), at)


def awaits_reading(state: State) -> bool:
    """Whether the leader's position has to be read a second time before it is taken for less."""
    return any(exposure.awaits_reading(holding) for holding in state.holdings.values())


def securities(state: State, readings: Iterable[Reading]) -> set[Security]:
    """Every instrument that the picture will speak of."""
    found = {key.security for key in state.holdings}
    for reading in readings:
        found |= {order.ticket.security for order in reading.orders}
        found |= {position.security for position in reading.positions}
    return found


def picture(
    state: State,
    readings: Mapping[str, Reading],
    at: datetime,
    scope: Scope | None = None,
    reasons: Mapping[tuple[str, Key], str] | None = None,
) -> Picture:
    """Look at every follower's part in every holding; `state` has the readings folded in."""
    scope = scope or Scope()
    evidence = gathered(state, readings, at, reasons or {})
    assert state.desk is not None
    names = [each.name for each in state.desk.followers if not scope.followers or each.name in scope.followers]
    parts = [part for name in names for part in _parts(evidence, name, scope)]
    blanks = [
        _blank(name, reading)
        for name in names
        if (reading := unread_of(evidence, name)) is not None and not any(part.name == name for part in parts)
    ]
    findings = [finding for name in names for finding in findings_of(evidence, name, scope)]
    findings += left_out_of(evidence, scope)
    problems = tuple(each for each in readings.values() if each.problem and each.account in (LEADER, *names))
    return Picture(at, state, tuple(parts), tuple(blanks), tuple(findings), problems, strays_of(evidence, names), scope)


def _blank(name: str, unread: Reading) -> Row:
    return Row(name, "", "", "", "", None, None, None, None, None, RowState.UNKNOWN, unread_reason(unread))


def _parts(evidence: Evidence, name: str, scope: Scope) -> Iterator[Part]:
    for key, holding in evidence.state.holdings.items():
        instrument = evidence.state.instruments.get(key.security)
        share = holding.shares.get(name) or Share(name)
        if not scope.has(name, key.security, instrument) or not _has_something(evidence, key, holding, share):
            continue
        account = evidence.state.accounts[name]
        row = _row(evidence, key, holding, share)
        yield _part(evidence, Part(key, name, holding, account, share, instrument, row, share.left))


def _has_something(evidence: Evidence, key: Key, holding: Holding, share: Share) -> bool:
    strays = (share.follower, key) in evidence.strays
    return bool(holding.leader_net or share.left or share.net or share.open or strays)


def _row(evidence: Evidence, key: Key, holding: Holding, share: Share) -> Row:
    """What can be said before anything is judged."""
    instrument = evidence.state.instruments.get(key.security)
    leader_read = not evidence.readings.get(LEADER, Reading(LEADER, problem="not read")).problem
    return Row(
        share.follower,
        key.security.exchange_segment,
        key.security.security_id,
        instrument.symbol if instrument is not None else key.security.security_id,
        key.product,
        holding.leader_net if leader_read else None,
        None,
        None,
        None,
        None,
        RowState.UNKNOWN,
        "",
        instrument.lot_size if instrument is not None else None,
        last_price=evidence.prices.get(key.security, holding.last_price),
        expiry=instrument.expiry if instrument is not None else None,
    )


def _part(evidence: Evidence, part: Part) -> Part:
    unread = unread_of(evidence, part.name)
    if unread is not None:
        part.row = replace(part.row, why=unread_reason(unread))
        return part
    target = _target(evidence, part)
    if target is None:
        part.row = replace(
            part.row,
            copied_quantity=part.copied,
            own_quantity=None if part.share.net is None else part.own,
            why="its target cannot be told: its row in the instrument master, or the capital, is not known",
        )
        return part
    _judge(evidence, part, target)
    return part


def _target(evidence: Evidence, part: Part) -> int | None:
    """What the follower should hold from copying; a filter takes nothing away, it only adds nothing."""
    share, holding = part.share, part.holding
    exact = targets.exact(evidence.state, holding, part.account, share)
    if exact is None:
        if targets.standing(holding):
            return None
        exact = 0
    part.copied = targets.counted(exact, share, part.lot)
    due = share.due if targets.is_covered(holding, share) else None
    target = targets.target(exact, part.copied, part.lot, due)
    if _grows(part.copied, target) and _filtered(part, target):
        return part.copied if part.copied * target > 0 else 0
    return target


def _grows(copied: int, target: int) -> bool:
    return target * copied < 0 or abs(target) > abs(copied)


def _filtered(part: Part, target: int) -> tuple[object, str] | None:
    if part.instrument is None:
        return None
    side = Side.BUY if target > 0 else Side.SELL
    ticket = Ticket(part.key.security, side, part.key.product, OrderType.MARKET, Validity.DAY, abs(target))
    return limits.filtered(part.account.follower.filter, ticket, part.instrument)


def _judge(evidence: Evidence, part: Part, target: int) -> None:
    """Compare, and find the state of the row."""
    part.need, part.turned = _need(part, target), _turned(part, target)
    part.coming, part.stuck = _under_way(evidence, part)
    state = _state(evidence, part)
    drift = -part.need
    part.row = replace(
        part.row,
        target_quantity=target,
        copied_quantity=part.copied,
        own_quantity=None if part.share.net is None else part.own,
        drift_quantity=drift,
        state=state,
        drift_lots=Decimal(drift) / part.lot,
        drift_value=_value(part, abs(drift)),
    )
    part.row = replace(part.row, why=why(evidence, part))


def _value(part: Part, quantity: int) -> Decimal | None:
    """What so many units are worth in rupees, None where their price or their multiplier is not known."""
    price, instrument = part.row.last_price, part.instrument
    if price is None or instrument is None or instrument.multiplier is None:
        return None
    return quantity * price * instrument.multiplier


def _need(part: Part, target: int) -> int:
    """What is to be bought (+) or sold; of what is too much, only what the broker still shows can be exited."""
    copied = part.copied
    if copied * target >= 0 and abs(target) >= abs(copied):
        return target - copied
    sign = 1 if copied > 0 else -1
    kept = max(target * sign, 0)
    exits = min(abs(copied) - kept, copied_position.held(part.holding, part.share, sign))
    enters = target if target * copied < 0 else 0
    return -sign * exits + enters


def _turned(part: Part, target: int) -> int:
    """What an exit of ours and an order of the account's own have closed twice, unless all is as it should be again."""
    turned, net = part.share.turned, part.share.net
    if not turned or net is None:
        return 0
    sign = 1 if turned > 0 else -1
    return sign * min(abs(turned), max((net - target) * sign, 0))


def _under_way(evidence: Evidence, part: Part) -> tuple[int, list[Slice]]:
    """What our working orders will still do of what is needed, and those that will not get there by themselves."""
    if not part.need:
        return 0, []
    sign = 1 if part.need > 0 else -1
    coming, stuck = 0, []
    for piece in part.share.open.values():
        if piece.asked.side.sign != sign or not _helps(part, piece):
            continue
        if _is_alive(evidence, piece):
            coming += piece.remaining
        else:
            stuck.append(piece)
    return min(coming + _ahead(part, sign), abs(part.need)), stuck


def _helps(part: Part, piece: Slice) -> bool:
    """Whether an order will trade for what the leader has traded already, not for what may come."""
    if piece.copy is None or part.copied * part.need >= 0:
        return True
    return piece.copy.leader.known.is_done or piece.copy.leader.reduced > 0


def _is_alive(evidence: Evidence, piece: Slice) -> bool:
    if piece.copy is None or not piece.copy.leader.known.is_done:
        return True
    return evidence.at < piece.placed_at + STUCK_AFTER


def _ahead(part: Part, sign: int) -> int:
    """How far our copies of orders that still work have traded before the leader's own: it will follow."""
    total: Units = 0
    for order in part.holding.active.values():
        copy = order.copies.get(part.name)
        if copy is None or order.known.is_done or order.known.ticket.side.sign == sign:
            continue
        level = sizing.quotient(copy.total * order.known.filled_quantity, max(order.known.ticket.quantity, 1))
        total += max(copy.filled - level, 0)
    return int(total)


def _state(evidence: Evidence, part: Part) -> RowState:
    if _is_unexplained(evidence, part):
        return RowState.UNEXPLAINED
    if part.need:
        working = part.coming + sum(piece.remaining for piece in part.stuck)
        return RowState.PENDING if working >= abs(part.need) else RowState.DRIFT
    if part.turned:
        return RowState.CLOSED_TWICE
    return RowState.OWN if part.own else RowState.IN_SYNC


def _is_unexplained(evidence: Evidence, part: Part) -> bool:
    if (part.name, part.key) in evidence.strays or any(is_lost(evidence, piece) for piece in part.share.open.values()):
        return True
    return bool(unaccounted(evidence, part))
