"""How a plan that the operator ordered is carried out: which of its tickets may be sent now, and how large.

A ticket is judged when its turn comes, by what is known then and not by what was known when
the plan was made: an exit never exceeds what is held from copying and still at the broker, an
entry never what is due.  Cancels go first; a ticket waits until they are confirmed, and an entry
waits for the plan's exits, which free its margin.  What cannot be sent within a minute is given up.

What the sizing rules justify is what the follower is *due* from then on, so that no sweep undoes the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from copytrader.core import copied_position, exposure, hours, limits, targets
from copytrader.core.copies import Key, Slice
from copytrader.core.facts import FixOrdered, Place, Role, Skip
from copytrader.core.model import OrderType, SkipReason, Ticket, day_of
from copytrader.core.names import correlation_id
from copytrader.core.state import Account, Fix, Holding, Share, State

PREFIX = "fix-"
"""What stands in a fact for the leader order of a ticket that follows from a plan."""
UNKNOWN = "outcome unknown"
"""What became of an order of which no answer has come."""
STALE_AFTER = timedelta(seconds=60)
_ENTRIES_WAIT = timedelta(seconds=15)
_LOOK_AGAIN = timedelta(seconds=0.25)
_MOST_ATTEMPTS = 3


# --- Ordering a plan -------------------------------------------------------------------


def order(state: State, fact: FixOrdered) -> list[Key]:
    """Take a plan over, once; return what it touches."""
    account = state.accounts.get(fact.account)
    if account is None or fact.plan_id in account.plans:
        return []
    touched = _mark_cancels(state, fact)
    plan = account.plans[fact.plan_id] = []
    after: dict[Key, int] = {}
    for number, ticket in enumerate(fact.tickets):
        key = Key(ticket.security, ticket.product)
        share = state.share(state.holding(key), fact.account)
        if key not in after:
            _let_go(state, key, account, share)
        role = Role.EXIT if number < fact.exits else Role.ENTRY
        fix = Fix(fact.plan_id, number, ticket, role, fact.planned_at or fact.at)
        share.fixes.append(fix)
        plan.append(fix)
        after[key] = _moved(after.get(key, share.left), fix)
    for key, quantity in after.items():
        _make_due(state, key, fact.account, quantity)
    for fix in plan:
        key = Key(fix.ticket.security, fix.ticket.product)
        fix.was_due = bool(state.share(state.holding(key), fact.account).due)
    return list(dict.fromkeys([*touched, *after]))


def _let_go(state: State, key: Key, account: Account, share: Share) -> None:
    """What the person closed by hand, and nothing that is due makes up for, counts as copied no longer."""
    exact = targets.exact(state, state.holding(key), account, share)
    if exact is not None and share.by_hand:
        counted = targets.counted(exact, share, state.instruments[key.security].lot_size)
        share.by_hand -= abs(share.copied - counted)
        share.copied = counted


def _moved(held: int, fix: Fix) -> int:
    sign, quantity = fix.ticket.side.sign, fix.ticket.quantity
    if fix.role is Role.EXIT:
        quantity = min(quantity, max(-held * sign, 0))
    return held + sign * quantity


def _make_due(state: State, key: Key, follower: str, quantity: int) -> None:
    """Make due what the sizing rules justify, missed orders included; what the plan comes to where they cannot tell."""
    holding = state.holding(key)
    share = state.share(holding, follower)
    exact = targets.exact(state, holding, state.accounts[follower], share)
    share.due = quantity if exact is None else exact
    if holding.leader_net is not None:
        share.covers = targets.standing(holding)
    for leader in holding.active.values():
        copy = leader.copies.get(follower)
        is_covered = leader.known.is_done and copy is not None and copy.lots is None
        if copy is not None and not copy.slices and (is_covered or leader.opened):
            copy.lots = 0
            copy.skip = Skip(follower, leader.known.order_id, SkipReason.LEADER_DONE, "the operator's plan covers it")


def _mark_cancels(state: State, fact: FixOrdered) -> list[Key]:
    """Have the plan's cancels done: by the engine, again and again, until the broker confirms the end.

    What an entry has not filled is the plan's affair from here on, and so is an exit whose leader order is over;
    an exit of an order that still works may be placed anew.
    """
    touched = []
    for order_id in fact.cancels:
        piece = state.by_order_id.get((fact.account, order_id))
        if piece is None or not piece.is_open:
            continue
        piece.cancelling = True
        copy = piece.copy
        if copy is not None and (piece.role is Role.ENTRY or copy.leader.known.is_done):
            copy.closed = SkipReason.DETACHED
        touched.append(piece.key)
    return touched


def give_up(state: State, skip: Skip) -> None:
    """A ticket is not sent, or not again: the reason is recorded."""
    fix = named(state.accounts[skip.account], skip.leader_order_id)
    if fix is not None:
        fix.over, fix.reason = True, f"{skip.reason}: {skip.detail}"


def named(account: Account, name: str) -> Fix | None:
    """Return the ticket of a plan that a command or a reason bears in place of a leader's order."""
    plan_id, _, number = name.removeprefix(PREFIX).rpartition("-")
    return next((fix for fix in account.plans.get(plan_id, ()) if str(fix.number) == number), None)


def stop_entries(share: Share) -> None:
    """Have the plan's open entries cancelled: copying is halted."""
    for piece in open_entries(share):
        piece.cancelling = True


def name_of(fix: Fix) -> str:
    return f"{PREFIX}{fix.plan_id}-{fix.number}"


def open_entries(share: Share) -> list[Slice]:
    return [each for each in share.open.values() if each.copy is None and each.role is Role.ENTRY and each.is_open]


# --- What may be sent now ----------------------------------------------------------------


@dataclass(slots=True)
class Todo:
    """What follows for one follower's part of a holding, and when to look again."""

    places: list[Place] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    cancels: list[tuple[Slice, str]] = field(default_factory=list)
    wake: datetime | None = None

    def look_again(self, at: datetime) -> None:
        self.wake = at if self.wake is None else min(self.wake, at)


@dataclass(slots=True)
class _Part:
    """One follower's part in a holding, while its plan is carried out."""

    state: State
    holding: Holding
    account: Account
    share: Share
    at: datetime
    todo: Todo = field(default_factory=Todo)
    lot: int = 1
    closing: int = 0
    opening: int = 0

    @property
    def name(self) -> str:
        return self.account.follower.name


def plan(state: State, holding: Holding, account: Account, share: Share, at: datetime) -> Todo:
    """Judge the tickets that wait, and the plan's open entries."""
    part = _Part(state, holding, account, share, at)
    instrument = state.instruments.get(holding.key.security)
    if instrument is not None:
        part.lot = instrument.lot_size
    _watch_entries(part)
    for fix in share.fixes:
        if not fix.over and _attempt(part, fix) is not None:
            _judge(part, fix)
    share.fixes = [fix for fix in share.fixes if not fix.over and not _is_settled(state, account, fix)]
    return part.todo


def _names(state: State, account: Account, fix: Fix) -> Iterable[str]:
    assert state.desk is not None
    leader, client = state.desk.leader_client_id, account.follower.client_id
    for attempt in range(_MOST_ATTEMPTS):
        yield correlation_id(leader, day_of(fix.planned_at), f"{PREFIX}{fix.plan_id}", client, attempt, fix.number)


def last_piece(state: State, account: Account, fix: Fix) -> Slice | None:
    """The order that a ticket became at last."""
    sent = [state.slices[name] for name in _names(state, account, fix) if name in state.slices]
    return sent[-1] if sent else None


def _is_settled(state: State, account: Account, fix: Fix) -> bool:
    """Whether its order is at the broker, or was: only what never got there may be tried again."""
    piece = last_piece(state, account, fix)
    return piece is not None and not piece.void


def _attempt(part: _Part, fix: Fix) -> int | None:
    """Which attempt is due now; None while none is."""
    tried = 0
    for name in _names(part.state, part.account, fix):
        piece = part.state.slices.get(name)
        if piece is None:
            break
        if not piece.void:
            return None
        tried += 1
        if part.at < piece.placed_at + tried * _LOOK_AGAIN:
            part.todo.look_again(piece.placed_at + tried * _LOOK_AGAIN)
            return None
    if tried < _MOST_ATTEMPTS:
        return tried
    _skip(part, fix, SkipReason.RATE_BUDGET, f"{tried} attempts never reached the broker")
    return None


def _skip(part: _Part, fix: Fix, reason: SkipReason, detail: str) -> None:
    part.todo.skips.append(Skip(part.name, name_of(fix), reason, detail))


def _judge(part: _Part, fix: Fix) -> None:
    if part.at > fix.planned_at + STALE_AFTER:
        _skip(part, fix, SkipReason.STALE, f"the plan was made at {fix.planned_at:%H:%M:%S}")
        return
    refusal = _impossible(part, fix)
    if refusal is not None:
        _skip(part, fix, *refusal)
    elif part.account.blocked is not None or _must_wait(part, fix):
        part.todo.look_again(part.at + _LOOK_AGAIN)
    elif fix.role is Role.EXIT:
        _exit(part, fix)
    else:
        _enter(part, fix)


def _impossible(part: _Part, fix: Fix) -> tuple[SkipReason, str] | None:
    desk, security = part.state.desk, fix.ticket.security
    assert desk is not None
    if security not in part.state.instruments:
        return SkipReason.UNKNOWN_INSTRUMENT, "it is not in the instrument master"
    if not desk.rules.enforce_hours:
        return None
    verdict = hours.is_open(desk.calendar, security.exchange_segment, part.at)
    return None if verdict.is_open else (SkipReason.MARKET_CLOSED, verdict.text)


def _must_wait(part: _Part, fix: Fix) -> bool:
    """Whether something is under way that decides how much is left to do."""
    for piece in part.share.open.values():
        closed = piece.copy is not None and piece.copy.closed is not None
        if piece.is_open and (piece.unknown or piece.cancelling or closed):
            return True
    if fix.role is Role.EXIT or part.at > fix.planned_at + _ENTRIES_WAIT:
        return False
    return any(
        each.role is Role.EXIT and not is_finished(part.state, part.account, each)
        for each in part.account.plans.get(fix.plan_id, ())
    )


def is_finished(state: State, account: Account, fix: Fix) -> bool:
    """Whether nothing more will come of a ticket."""
    piece = last_piece(state, account, fix)
    return fix.over or (piece is not None and not piece.is_open and not piece.void)


def outcome(state: State, account: Account, fix: Fix) -> str:
    """What became of a ticket, in a word or with the reason why it was not sent."""
    piece = last_piece(state, account, fix)
    if piece is None:
        return fix.reason or "not sent"
    if piece.is_open:
        return UNKNOWN if piece.unknown or not piece.order_id else "still working"
    return fix.reason or str(piece.ended or "").lower()


def _exit(part: _Part, fix: Fix) -> None:
    sign = -fix.ticket.side.sign
    held = copied_position.held(part.holding, part.share, sign)
    free = held - _closing(part, sign) - part.closing
    quantity = min(fix.ticket.quantity, free)
    if quantity <= 0:
        _skip(part, fix, SkipReason.NOTHING_TO_EXIT, f"copied position {part.share.copied}, {free} of it to exit")
        return
    part.closing += quantity
    _place(part, fix, quantity, f"plan {fix.plan_id}")


def _closing(part: _Part, sign: int) -> int:
    """What other orders of ours will close for certain: not a resting exit, which follows the position."""
    return sum(
        piece.remaining
        for piece in part.share.open.values()
        if piece.asked.side.sign != sign
        and (piece.copy is None or piece.copy.leader.known.is_done or exposure.is_immediate(piece.copy.leader))
    )


def _enter(part: _Part, fix: Fix) -> None:
    sign = fix.ticket.side.sign
    quantity = min(fix.ticket.quantity, _room(part, sign) - part.opening) // part.lot * part.lot
    if quantity <= 0:
        _skip(part, fix, SkipReason.STALE, f"it is no longer due: copied position {part.share.copied}")
        return
    ticket = replace(fix.ticket, quantity=quantity)
    decided = sum(1 for place in part.todo.places if place.role is Role.ENTRY)
    refusal = held_back(
        part.state, part.holding, part.account, part.share, ticket, part.at, before=part.opening, decided=decided
    )
    if refusal is not None:
        _skip(part, fix, *refusal)
        return
    part.opening += quantity
    _place(part, fix, quantity, f"plan {fix.plan_id}")


def _room(part: _Part, sign: int) -> int:
    """How much an entry may still add: what is due and, while copying, justified, less what is held or working."""
    share = part.share
    due = copied_position.due_in(share, sign)
    exact = targets.exact(part.state, part.holding, part.account, share) if part.state.copying else None
    if exact is not None:
        due = min(due, max(targets.target(exact, share.copied, part.lot) * sign, 0))
    working = sum(piece.remaining for piece in share.open.values() if piece.asked.side.sign == sign)
    return int(due) - max(share.copied * sign, 0) - working


def held_back(
    state: State,
    holding: Holding,
    account: Account,
    share: Share,
    ticket: Ticket,
    at: datetime,
    *,
    before: int = 0,
    decided: int = 0,
) -> tuple[SkipReason, str] | None:
    """Judge an entry of a plan as any entry is: halted, filtered, impossible terms, over a limit.

    `before` units of it, in so many `decided` entries, go in the same moment.
    """
    security = holding.key.security
    instrument, where = state.instruments.get(security), f"{security.exchange_segment} {security.security_id}"
    if instrument is None:
        return SkipReason.UNKNOWN_INSTRUMENT, f"{where} is not in the instrument master"
    if instrument.multiplier is None:
        return SkipReason.UNKNOWN_INSTRUMENT, f"the multiplier of {where} is not known"
    if account.halted:
        return SkipReason.HALTED, "copying is halted"
    return (
        limits.filtered(account.follower.filter, ticket, instrument)
        or limits.bad_terms(ticket, instrument)
        or limits.over_limit(
            state, account, holding, share, ticket, ticket.quantity, before + ticket.quantity, at, decided
        )
    )


def _place(part: _Part, fix: Fix, quantity: int, why: str) -> None:
    names = list(_names(part.state, part.account, fix))
    attempt = sum(1 for name in names if name in part.state.slices)
    ticket = replace(fix.ticket, quantity=quantity)
    opens = quantity if fix.role is Role.ENTRY else 0
    place = Place(part.name, name_of(fix), names[attempt], ticket, fix.role, attempt, why=why, opens=opens)
    part.todo.places.append(place)


def _watch_entries(part: _Part) -> None:
    """Cancel entries of a plan that the leader has got out of, and market ones that rest."""
    assert part.state.desk is not None
    wait = timedelta(seconds=part.state.desk.rules.market_wait_seconds)
    entries = [each for each in open_entries(part.share) if not each.cancelling]
    for piece in entries:
        sign = piece.asked.side.sign
        working = sum(each.remaining for each in entries if each.asked.side.sign == sign)
        room = copied_position.due_in(part.share, sign) - max(part.share.copied * sign, 0)
        if working > room:
            part.todo.cancels.append((piece, "it is no longer due"))
        elif piece.asked.order_type is OrderType.MARKET:
            if part.at >= piece.placed_at + wait:
                part.todo.cancels.append((piece, "a market order that did not fill"))
            else:
                part.todo.look_again(piece.placed_at + wait)
