"""What a leader's order opens for a follower: its lots, or the reason why it gets none.

An order is judged once, and again when what it opens changes.  A refusal that no later event can take away
stays; one for a price or a size is judged anew with the next terms.  Exits are not judged here: nothing
holds them back.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from math import floor

from copytrader.core import exposure, hours, limits, sizing
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.facts import Level, Sized, Skip
from copytrader.core.model import LEADER, ZERO, OrderStatus, SizingMode, SkipReason, Ticket
from copytrader.core.names import correlation_id
from copytrader.core.scene import Scene, age_of, age_of_opening, rules_of

_FRAME_WAIT = timedelta(seconds=0.4)
"""The frame with an order's terms may be overtaken by the next one; the book is asked only when it does not come."""
_TERMS_WAIT = timedelta(seconds=1.5)
_LOOK_AGAIN = timedelta(seconds=0.25)
_FOR_OTHER_TERMS = frozenset(
    {
        SkipReason.LIMIT_ORDER_VALUE,
        SkipReason.LIMIT_ORDER_LOTS,
        SkipReason.LIMIT_POSITION_LOTS,
        SkipReason.PRICE_BAND,
        SkipReason.BAD_TERMS,
    }
)


def judge(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Give an order its lots or the reason why it has none; tell whether its copy is to be kept up."""
    reason = _never(scene, order, copy)
    if reason is not None:
        scene.desk.skip(copy, *reason)
        return False
    if order.known.is_dead and not copy.was_sent and copy.skip is None:
        scene.desk.skip(copy, *_done_reason(order, copy))
    if order.known.is_dead or (copy.was_sent and copy.closed is not None):
        _resize(scene, order, copy)
        return False
    if not _is_known(scene, order, copy):
        return False
    if not order.only_exits:
        _judge_entry(scene, order, copy)
    return True


def _done_reason(order: LeaderOrder, copy: Copy) -> tuple[SkipReason, str]:
    ended = order.known.ended
    if copy.lots:
        return SkipReason.RATE_BUDGET, f"the leader's order was {ended} while its copy waited for its turn"
    return SkipReason.LEADER_DONE, f"the leader's order was {ended} before a copy was due" + (
        f": {order.known.note}" if order.known.note and ended is OrderStatus.REJECTED else ""
    )


def _never(scene: Scene, order: LeaderOrder, copy: Copy) -> tuple[SkipReason, str] | None:
    """Reasons that no later event can take away."""
    known = order.known
    if copy.slices:
        return None
    if known.correlation_id.startswith("ct1-"):
        return SkipReason.OWN_COPY, f"the leader's order is itself a copy, {known.correlation_id}"
    adopted = _adopted_for(scene, order)
    if adopted and not _may_be_made_anew(scene, order):
        return SkipReason.DETACHED, f"the order {adopted} was made for it"
    if not known.kind.is_copied:
        if copy.skip is None:
            text = f"the leader's order {known.order_id} is a {known.kind.lower()} order, which is not copied"
            scene.desk.alert(Level.WARNING, text, scene.name, f"kind-{known.order_id}")
        return SkipReason.UNSUPPORTED_KIND, f"{known.kind} orders are not copied"
    return None


def _adopted_for(scene: Scene, order: LeaderOrder) -> str:
    """Find the order that was placed for it under a journal that is lost: the same copy has the same name for ever."""
    account = scene.account
    if not (account.adopted or account.strays):
        return ""
    name = _first_name(scene, order)
    strays = (order_id for order_id, each in account.strays.items() if each == name)
    return account.adopted.get(name) or next(strays, "")


def _first_name(scene: Scene, order: LeaderOrder) -> str:
    assert scene.state.desk is not None
    known, client_id = order.known, scene.account.follower.client_id
    return correlation_id(scene.state.desk.leader_client_id, known.trade_date, known.order_id, client_id, 0, 0)


def _may_be_made_anew(scene: Scene, order: LeaderOrder) -> bool:
    """Whether an exit that works at the leader goes once more: what was adopted for it is cancelled.

    Of one that had filled in part it is only known what is left where it closes the whole position.
    """
    side, first = order.known.ticket.side, scene.state.slices.get(_first_name(scene, order))
    if not order.only_exits or order.known.is_done or first is None:
        return False
    if first.filled and not scene.parts(order).is_whole:
        return False
    return not any(piece.copy is None and piece.asked.side is side for piece in scene.share.open.values())


def _is_known(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Whether enough is known to judge: terms, an instrument, and that the order reached the exchange."""
    known = order.known
    if scene.instrument is None or scene.instrument.multiplier is None:
        if not copy.slices:
            scene.desk.skip(copy, *_unknown_instrument(scene))
        return bool(copy.slices) and scene.instrument is not None
    if known.has_terms:
        return known.working
    if scene.at >= order.first_seen + _TERMS_WAIT and (known.is_filled or known.is_done) and order.only_exits:
        return True
    if scene.at >= order.first_seen + timedelta(seconds=rules_of(scene.state).max_age_seconds):
        if not order.only_exits:
            scene.desk.skip(copy, SkipReason.STALE, "its terms were never learnt")
        return order.only_exits
    if scene.at < order.first_seen + _FRAME_WAIT:
        scene.wake(order.first_seen + _FRAME_WAIT)
    else:
        scene.state.ask_books.add(LEADER)
    scene.wake(order.first_seen + _TERMS_WAIT)
    scene.wake(order.first_seen + timedelta(seconds=rules_of(scene.state).max_age_seconds))
    return False


def _unknown_instrument(scene: Scene) -> tuple[SkipReason, str]:
    security = scene.holding.key.security
    where = f"{security.exchange_segment} {security.security_id}"
    if scene.instrument is None:
        return SkipReason.UNKNOWN_INSTRUMENT, f"{where} is not in the instrument master"
    return SkipReason.UNKNOWN_INSTRUMENT, f"the multiplier of {where} is not known"


def _judge_entry(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """Give an order that opens its lots, or the reason why it gets none."""
    if _is_to_be_resumed(order, copy):
        _resume(scene, order, copy)
    if _is_to_be_judged(scene, order, copy):
        opens = scene.parts(order).opens
        if opens <= 0:
            return
        reason = _refusal(scene, order)
        if reason is not None:
            scene.desk.skip(copy, *reason)
            _look_again_at_the_opening(scene, order, copy)
            return
        sized = _sized(scene, order, copy, opens)
        if sized is None:
            return
        size = sized.lots * scene.lot
        over = _over_limit(scene, order, size, size) if size else None
        if over is not None:
            if not _waits_for_exits(scene, order, size):
                scene.desk.skip(copy, *over)
            return
        _size(scene, order, copy, sized)
    else:
        _resize(scene, order, copy)


def _is_to_be_judged(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    if copy.lots is None and copy.skip is None:
        return True
    if copy.slices or copy.skip is None:
        return False
    reason = copy.skip.reason
    if reason in _FOR_OTHER_TERMS:
        return copy.judged_ticket is not order.known.ticket
    if reason is SkipReason.TOKEN:
        return scene.account.blocked is None and not scene.state.leader_blocked
    if reason is SkipReason.UNKNOWN_INSTRUMENT:
        return True
    if reason is SkipReason.MARKET_CLOSED:
        return not order.known.is_done and _closed_hours(scene, order.known.ticket) is None
    return copy.lots is None and reason in (SkipReason.NOTHING_TO_EXIT, SkipReason.BELOW_ONE_LOT)


def _is_to_be_resumed(order: LeaderOrder, copy: Copy) -> bool:
    """Whether a copy was cancelled for the leader's terms, and these are others."""
    if not (copy.slices and copy.lots) or copy.skip is None or copy.is_open:
        return False
    return copy.skip.reason in _FOR_OTHER_TERMS and copy.judged_ticket is not order.known.ticket


def _resume(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """Let a copy that was cancelled for the leader's terms go on by the new ones, as large as it was."""
    assert copy.lots is not None
    size = copy.lots * scene.lot
    reason = _refusal(scene, order) or _over_limit(scene, order, size, size - copy.opened)
    if reason is None:
        scene.desk.decide(_as_before(scene, order, copy))
    else:
        scene.desk.skip(copy, *reason)


def _refusal(scene: Scene, order: LeaderOrder) -> tuple[SkipReason, str] | None:
    """What holds the opening part back, apart from its size."""
    assert scene.instrument is not None
    known, ticket = order.known, order.known.ticket
    follower = scene.account.follower
    age, most = age_of_opening(scene, order), rules_of(scene.state).max_age_seconds
    if (exposure.is_immediate(order) or known.is_done) and age > most:
        return SkipReason.STALE, f"first judged {age:.0f} s after it was placed, at most {most} s is copied"
    if order.missed:
        return SkipReason.LEADER_DONE, "the leader's order had traded before copying began"
    if scene.account.halted:
        return SkipReason.HALTED, "copying is halted"
    if scene.account.blocked is not None:
        return SkipReason.TOKEN, f"the broker refuses the account's {scene.account.blocked.lower()}"
    if scene.state.leader_blocked:
        return SkipReason.TOKEN, "the broker refuses the leader's access token"
    return (
        limits.filtered(follower.filter, ticket, scene.instrument)
        or _closed_hours(scene, ticket)
        or limits.bad_terms(ticket, scene.instrument)
    )


def _look_again_at_the_opening(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """An order that came too early works at the exchange when that opens, or is over: its clock is not ours."""
    if copy.skip is None or copy.skip.reason is not SkipReason.MARKET_CLOSED:
        return
    assert scene.state.desk is not None
    opens = hours.opening(scene.state.desk.calendar, order.known.ticket.security.exchange_segment, scene.at)
    if opens is not None:
        scene.wake(opens)


def _closed_hours(scene: Scene, ticket: Ticket) -> tuple[SkipReason, str] | None:
    if not rules_of(scene.state).enforce_hours or ticket.after_market:
        return None
    assert scene.state.desk is not None
    verdict = hours.is_open(scene.state.desk.calendar, ticket.security.exchange_segment, scene.at)
    return None if verdict.is_open else (SkipReason.MARKET_CLOSED, verdict.text)


def _sized(scene: Scene, order: LeaderOrder, copy: Copy, opens: int) -> Sized | None:
    """Size an entry for the first time; None while the capital it depends on is not known."""
    sizing_rule, share = scene.account.follower.sizing, scene.share
    side = order.known.ticket.side
    carry = share.carry if share.carry_side is side else ZERO
    assert scene.instrument is not None
    if sizing_rule.mode is SizingMode.LOTS:
        detail = f"{sizing_rule.lots} lots per entry"
        return Sized(scene.name, order.known.order_id, sizing_rule.lots, opens, ZERO, carry, side, detail)
    if sizing_rule.mode is SizingMode.RISK and (capital := _capital(scene)) is not None:
        return _sized_by_risk(scene, order, opens, capital)
    factor = _factor(scene)
    if factor is None:
        _wait_for_capital(scene, order, copy)
        return None
    exact = sizing.exact_lots(opens, scene.instrument, factor)
    pool = carry + exact
    lots = max(floor(pool), 0)
    detail = f"{opens} / {scene.lot} lots x {factor} = {exact}, carry {carry}: {lots} lots, carry {pool - lots}"
    return Sized(scene.name, order.known.order_id, lots, opens, exact, pool - lots, side, detail)


def _wait_for_capital(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """It is read with the next book; an order that it comes too late for is not copied."""
    scene.state.ask_books |= {scene.name, LEADER}
    scene.wake(scene.at + timedelta(seconds=1))
    if age_of(scene, order) > rules_of(scene.state).max_age_seconds:
        scene.desk.skip(copy, SkipReason.STALE, "the capital that its size depends on is not known")


def _capital(scene: Scene) -> Decimal | None:
    """The follower's capital as the configuration has it, else as the broker gave it for the day."""
    rule, funds = scene.account.follower.sizing, scene.account.funds
    if rule.capital is not None:
        return rule.capital
    return None if funds is None else funds.start_of_day


def _factor(scene: Scene) -> Decimal | None:
    return sizing.scale(scene.account.follower.sizing, scene.account.funds, scene.state.leader_funds)


def _sized_by_risk(scene: Scene, order: LeaderOrder, opens: int, capital: Decimal) -> Sized:
    rule, ticket = scene.account.follower.sizing, order.known.ticket
    carry = scene.share.carry if scene.share.carry_side is ticket.side else ZERO
    price = sizing.price_of(ticket, order.known.last_price or scene.holding.last_price)
    assert scene.instrument is not None
    if price is None:
        detail = "no price is known to reckon the risk with"
        return Sized(scene.name, order.known.order_id, 0, opens, ZERO, carry, ticket.side, detail)
    lots = sizing.risk_lots(rule, capital, ticket, scene.instrument, price)
    detail = f"{rule.risk_percent} % of {capital} at {price} a unit: {lots} lots"
    return Sized(scene.name, order.known.order_id, lots, opens, ZERO, carry, ticket.side, detail)


def _over_limit(
    scene: Scene, order: LeaderOrder, total: int, adds: int, *, once_closed: bool = False
) -> tuple[SkipReason, str] | None:
    return limits.over_limit(
        scene.state,
        scene.account,
        scene.holding,
        scene.share,
        order.known.ticket,
        total,
        adds,
        scene.at,
        once_closed=once_closed,
    )


def _waits_for_exits(scene: Scene, order: LeaderOrder, size: int) -> bool:
    """Whether an entry is over a limit only for what exits are about to close, and may wait for that.

    They may be another instrument's, of which nothing is told here: it is looked again every moment.  The last look
    comes before the entry is too old, so that it is the limit that is given as the reason.
    """
    last_look = timedelta(seconds=rules_of(scene.state).max_age_seconds) - _LOOK_AGAIN
    until = (order.known.placed_at or order.first_seen) + last_look
    if scene.at >= until or _over_limit(scene, order, size, size, once_closed=True) is not None:
        return False
    scene.wake(min(scene.at + _LOOK_AGAIN, until))
    return True


def _resize(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """Follow a change of the part that opens: more, less, or given up."""
    if copy.lots is None or scene.instrument is None or (copy.skip is not None and not (copy.lots or copy.exact)):
        return
    opens = scene.parts(order).opens
    grown = copy.judged_ticket is not order.known.ticket or order.opened > max(copy.opens, copy.judged_opened)
    if opens == copy.opens and not _may_take_a_lot(scene, order, opens):
        return
    if opens > copy.opens and order.known.is_done and not grown:
        return
    sized = _resized(scene, order, copy, opens)
    if sized is None:
        return
    if sized.lots > copy.lots:
        over = _over_limit(scene, order, sized.lots * scene.lot, (sized.lots - copy.lots) * scene.lot)
        if over is not None and not grown:
            return
        if over is not None:
            detail = f"{over[1]}; it stays at {copy.lots} lots"
            scene.desk.decide(Skip(scene.name, order.known.order_id, over[0], detail))
            scene.desk.decide(_as_before(scene, order, copy))
            return
    _size(scene, order, copy, sized)


def _may_take_a_lot(scene: Scene, order: LeaderOrder, opens: int) -> bool:
    """Whether orders that were cancelled, or made smaller, have given back a whole lot: one that works takes it up."""
    share, known = scene.share, order.known
    if share.carry < 1 or share.carry_side is not known.ticket.side or not opens or known.is_done:
        return False
    return scene.account.follower.sizing.mode in (SizingMode.RATIO, SizingMode.CAPITAL)


def _as_before(scene: Scene, order: LeaderOrder, copy: Copy) -> Sized:
    """The size that a copy keeps though the leader's order grows: what was refused is the growth alone."""
    share, side = scene.share, order.known.ticket.side
    assert copy.lots is not None
    return Sized(
        scene.name,
        order.known.order_id,
        copy.lots,
        copy.opens,
        copy.exact,
        share.carry,
        share.carry_side or side,
        f"as before: {copy.lots} lots",
    )


def _size(scene: Scene, order: LeaderOrder, copy: Copy, sized: Sized) -> None:
    scene.desk.decide(sized)
    if not sized.lots and not copy.was_sent and not scene.parts(order).closes:
        scene.desk.skip(copy, SkipReason.BELOW_ONE_LOT, sized.detail)


def _resized(scene: Scene, order: LeaderOrder, copy: Copy, opens: int) -> Sized | None:
    """The lots for another opening quantity: what was rounded off before counts once."""
    assert scene.instrument is not None
    assert copy.lots is not None
    share, side = scene.share, order.known.ticket.side
    carry = share.carry if share.carry_side is side else ZERO
    if scene.account.follower.sizing.mode in (SizingMode.LOTS, SizingMode.RISK):
        if opens and not copy.lots:
            return _sized(scene, order, copy, opens)
        lots = copy.lots if opens else 0
        return Sized(scene.name, order.known.order_id, lots, opens, ZERO, carry, side, f"the order opens {opens}")
    factor = _factor(scene)
    if factor is None:
        return None
    exact = sizing.exact_lots(opens, scene.instrument, factor)
    pool = carry + exact - copy.exact
    lots = max(copy.lots + floor(pool), 0) if opens else 0
    rest = pool - (lots - copy.lots)  # less than nothing where another order has had what this one gives back
    detail = f"now {opens} / {scene.lot} lots x {factor} = {exact}: {lots} lots, carry {rest}"
    return Sized(scene.name, order.known.order_id, lots, opens, exact, rest, side, detail)
