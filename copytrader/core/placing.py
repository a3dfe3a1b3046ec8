"""Whether a copy may place another order now, and whether that may open: asked just before it goes."""

from __future__ import annotations

from datetime import timedelta

from copytrader.core import exposure, limits
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.facts import Level
from copytrader.core.model import OrderType, SkipReason, Ticket
from copytrader.core.scene import RETRY_PAUSES, Scene, age_of_opening, is_changing, rules_of, say_once

_MOST_FAILED_PLACINGS = 6
_MOST_ABSENT_EXITS = 3
_MOST_TO_AND_FRO = 12
_TO_AND_FRO_IN = timedelta(minutes=1)
_MOST_BOUGHT_BACK = 3
_SOON = timedelta(milliseconds=1)


def may_place(scene: Scene, order: LeaderOrder, copy: Copy, *, exits: bool) -> bool:
    if scene.account.blocked is not None or copy.closed is not None:
        return False
    if any(piece.is_open and (is_changing(piece) or piece.detached) for piece in copy.slices):
        return False
    if not exits and not may_open(scene, order, copy):
        return False
    if not copy.slices:
        return True
    if _goes_to_and_fro(scene, copy) or is_bought_back(scene, copy):
        return False
    if any(piece.is_refused and _differs_in_quantity_only(piece.asked, order.known.ticket) for piece in copy.slices):
        return False
    if exits:
        absent = sum(1 for piece in copy.slices if piece.absent)
        return absent <= _MOST_ABSENT_EXITS and _may_place_again(scene, copy, exits=True)
    return _may_place_again(scene, copy, exits=False)


def _goes_to_and_fro(scene: Scene, copy: Copy) -> bool:
    """Whether its orders were placed and taken back so often within a minute that no more may go: calls have an end."""
    since = scene.at - _TO_AND_FRO_IN
    placed = sorted({piece.placed_at for piece in copy.slices if piece.cancelling and piece.placed_at > since})
    if len(placed) < _MOST_TO_AND_FRO:
        return False
    scene.wake(placed[-_MOST_TO_AND_FRO] + _TO_AND_FRO_IN)
    name = copy.leader.known.order_id
    text = f"the copy of {name} was placed and cancelled {len(placed)} times within a minute: it waits"
    say_once(scene, Level.CRITICAL, text, f"to-and-fro-{name}")
    return True


def is_bought_back(scene: Scene, copy: Copy) -> bool:
    """Whether its orders filled ahead of the leader's, and were closed by a sweep, so often that no more may go yet.

    Each time costs the spread.  Once the leader's order is over, what it comes to is certain.
    """
    order = copy.leader.known
    if copy.bought_back < _MOST_BOUGHT_BACK or order.is_done:
        return False
    text = f"the copy of {order.order_id} filled ahead of the leader's again and again, and was closed: it waits"
    say_once(scene, Level.CRITICAL, text, f"bought-back-{order.order_id}")
    return True


def may_open(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Judge the part that opens once more, just before it is placed."""
    if copy.skip is not None and not _has_waited_for_room(copy):
        return False
    if scene.account.halted:
        scene.desk.skip(copy, SkipReason.HALTED, "copying is halted")
        return False
    over = limits.over_daily_loss(scene.account, scene.at)
    if over is not None:
        scene.desk.skip(copy, *over)
        return False
    return _is_fresh(scene, order, copy)


def _has_waited_for_room(copy: Copy) -> bool:
    return copy.units > 0 and copy.skip is not None and copy.skip.reason is SkipReason.BELOW_ONE_LOT


def _differs_in_quantity_only(refused: Ticket, terms: Ticket) -> bool:
    same_price = refused.price == terms.price or terms.order_type is OrderType.STOP_LOSS_MARKET
    return same_price and refused.trigger_price == terms.trigger_price


def _may_place_again(scene: Scene, copy: Copy, *, exits: bool) -> bool:
    """After placings that never reached the broker: with a pause; an entry not for ever."""
    void = [piece for piece in copy.slices if piece.void]
    if not void:
        return True
    if len(void) >= _MOST_FAILED_PLACINGS and not exits:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, f"{len(void)} attempts never reached the broker")
        return False
    pause = timedelta(seconds=RETRY_PAUSES[min(len(void) - 1, len(RETRY_PAUSES) - 1)])
    if scene.at < void[-1].placed_at + pause:
        scene.wake(void[-1].placed_at + pause)
        return False
    return True


def _is_fresh(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Judge an entry once more that could not be sent at once."""
    most = rules_of(scene.state).max_age_seconds
    if (exposure.is_immediate(order) or order.known.is_done) and age_of_opening(scene, order) > most:
        scene.desk.skip(copy, SkipReason.STALE, f"it could not be sent within {most} s")
        scene.wake(scene.at + _SOON)  # what it was to close as well is a sweep's from now on
        return False
    return True
