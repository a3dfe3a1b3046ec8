"""What hangs on no leader order: sweeps, which close what the leader's position no longer justifies, and strays.

A sweep is the last resort: it goes when the follower has held too much for a while, no exit is about to close it,
and no answer is awaited on that side; what orders may close that nobody knows to be there is left to them.  It closes
no more than is held, and is given up after three refusals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import count

from copytrader.core import copied_position, exits, left_late, room, sizing
from copytrader.core.budget import Rank
from copytrader.core.copied_position import side_of
from copytrader.core.copies import Slice
from copytrader.core.exposure import is_immediate
from copytrader.core.facts import Cancel, Command, Level, Modify, Place, Role
from copytrader.core.model import ZERO, OrderType, Product, Side, Ticket, Validity
from copytrader.core.names import correlation_id
from copytrader.core.pricing import crossing, repriced, times_repriced
from copytrader.core.scene import (
    RETRY_PAUSES,
    Scene,
    Want,
    is_due,
    is_open_now,
    is_unsettled,
    rules_of,
    say_once,
    say_taken,
    want_cancel,
)
from copytrader.core.state import Share

_SWEEP_WAIT = timedelta(seconds=1)
_SWEEP_PAUSES = (timedelta(0), timedelta(seconds=5), timedelta(seconds=60))
_PROOF_AT_MOST = timedelta(seconds=10)
_CLOSED_PAUSE = timedelta(seconds=60)
_FIRST_SWEEP = 1000
"""Where the generations of sweeps begin, beyond those of any copy."""


def plan_strays(scene: Scene) -> list[Want]:
    """Open orders of ours whose leader order is gone: adopted ones, and those turned up late."""
    wants = []
    for piece in scene.share.open.values():
        if piece.copy is None and piece.cancelling:
            want = want_cancel(scene, piece, "no leader order stands behind it")
            if want is not None:
                wants.append(want)
    return wants


def plan_closed(scene: Scene) -> list[Want]:
    """While nothing is copied: go on cancelling what was to be cancelled."""
    wants = []
    for piece in scene.share.open.values():
        if piece.copy is not None and (piece.cancelling or piece.copy.closed is not None):
            want = want_cancel(scene, piece, "copying has stopped")
            if want is not None:
                wants.append(want)
    return wants


def surplus_of(scene: Scene) -> int:
    """What a sweep should close now, in units: held beyond what the leader's position justifies, for a while."""
    share = scene.share
    if share.unproved and share.overtaken_at is not None:
        scene.wake(share.overtaken_at + copied_position.PROOF_AFTER)
        if scene.at >= share.overtaken_at + copied_position.PROOF_AFTER:
            scene.state.ask_books.add(scene.name)
    if not scene.state.copying and not share.flatten:
        return 0
    if share.flatten:
        too_much = max(abs(share.left) - sum(piece.remaining for piece in share.sweeps), 0)
    else:
        _say_left_late(scene)
        too_much = room.excess(scene.holding, share, scene.lot, _out_since(scene))
    if too_much <= 0:
        if share.excess_since is not None:
            share.excess_since = None
            share.alerted.pop(_matter(scene), None)
        return 0
    if share.excess_since is None:
        share.excess_since = scene.at
    scene.wake(share.excess_since + _SWEEP_WAIT)
    return too_much if scene.at >= share.excess_since + _SWEEP_WAIT or share.flatten else 0


def _out_since(scene: Scene) -> datetime | None:
    """How long ago the leader must have got out for a sweep to go in the place of an order that opens beside."""
    if left_late.is_off(scene.state):
        return None
    return scene.at - timedelta(seconds=rules_of(scene.state).market_wait_seconds)


def _say_left_late(scene: Scene) -> None:
    """Say what stays because late exits are off, and no exit is to close; again when it happens again."""
    share, matter = scene.share, f"late-{scene.state.named(scene.holding.key.security)}"
    sign = 1 if share.left_late > 0 else -1
    left = int(share.left_late * sign - room.lagging(scene.holding, share, sign, scene.lot))
    if left > 0:
        text = f"holds {left} of which the leader is out, and late exits are off: close it by hand"
        say_once(scene, Level.CRITICAL, text, matter)
    else:
        share.alerted.pop(matter, None)


def plan_sweep(scene: Scene, planned: list[Want]) -> list[Want]:
    """Close what the follower still holds though the leader is out, when nothing else will."""
    wants = [want for piece in scene.share.sweeps if (want := _chase(scene, piece)) is not None]
    side = side_of(scene.share.copied)
    if planned and any(want.rank <= Rank.EXIT and _closes(scene, want.command, side) for want in planned):
        return wants
    quantity = _sweepable(scene)
    if quantity <= 0 or scene.instrument is None:
        return wants
    order_id, day = _sweep_anchor(scene)
    share = scene.share
    largest = sizing.largest_order(scene.instrument) or quantity
    names = _free_names(scene, order_id, day)
    while quantity > 0:
        part = min(quantity, largest)
        quantity -= part
        generation, name = next(names)
        ticket = Ticket(
            scene.holding.key.security, side, scene.holding.key.product, OrderType.MARKET, Validity.DAY, part
        )
        if share.no_market:
            ticket = crossing(scene, ticket)
        why = f"the leader's position justifies {share.due} of the copied {share.copied}"
        place = Place(scene.name, order_id, name, ticket, Role.EXIT, generation, sweep=True, why=why)
        wants.append(Want(Rank.EXIT, place))
    return wants


def _free_names(scene: Scene, order_id: str, day: date) -> Iterator[tuple[int, str]]:
    """Names for sweeps, each with its generation; after a lost journal the broker may know the first ones already."""
    assert scene.state.desk is not None
    leader, follower = scene.state.desk.leader_client_id, scene.account.follower.client_id
    for generation in count(_FIRST_SWEEP + scene.share.sweeps_made):
        name = correlation_id(leader, day, order_id, follower, generation, 0)
        if name not in scene.state.slices:
            yield generation, name


def _closes(scene: Scene, command: Command, side: Side) -> bool:
    """Whether a command changes what orders on the closing side will do: a sweep waits for that.

    What rests closes nothing now, and may have to wait for calls itself.
    """
    if isinstance(command, Cancel):
        return scene.state.slices[command.correlation_id].asked.side is side
    return command.ticket.side is side


def _sweep_anchor(scene: Scene) -> tuple[str, date]:
    last = scene.holding.last_exit
    if last is not None and last.known.trade_date == scene.state.day:
        return last.known.order_id, last.known.trade_date
    key = scene.holding.key
    assert scene.state.day is not None
    return f"flat-{key.security.exchange_segment}-{key.security.security_id}-{key.product}", scene.state.day


def _sweepable(scene: Scene) -> int:
    """How much a sweep may close now: not beyond the broker's net, nor what other exits will close."""
    share, quantity = scene.share, scene.surplus
    if quantity <= 0 or scene.account.blocked is not None:
        return 0
    side = side_of(share.copied)
    on_side = [piece for piece in share.open.values() if piece.asked.side is side]
    if any(not _is_lost(piece) and (is_unsettled(piece) or _is_larger(scene, piece)) for piece in on_side):
        return 0
    closing = exits.being_closed(scene.holding, share, side)
    unseen = sum(_may_close_unseen(share, piece) for piece in on_side if _is_lost(piece))
    quantity = min(quantity, abs(share.left) - closing - unseen)
    if share.net is not None and scene.holding.key.product not in (Product.CNC, Product.MTF):
        at_broker = max(share.net * (1 if share.copied > 0 else -1), 0)
        if at_broker < quantity:
            _say(scene, f"holds {share.net} at the broker but {share.copied} from copying")
        quantity = min(quantity, at_broker)
    if quantity <= 0 or not _is_proved(scene) or not _sweep_is_due(scene):
        return 0
    return quantity


def _is_lost(piece: Slice) -> bool:
    """Whether its placing was not answered: nobody knows whether it is there, for two minutes at most."""
    return piece.unknown and not piece.order_id


def _may_close_unseen(share: Share, piece: Slice) -> int:
    """What a lost order may close, where `exits.being_closed` does not count it: not what is to open by now."""
    if any(piece is sweep for sweep in share.sweeps):
        return 0
    leader = piece.copy.leader if piece.copy is not None else None
    is_counted = leader is not None and not leader.known.is_dead and (leader.known.is_filled or is_immediate(leader))
    opens = min(piece.may_open, piece.copy.may_open) if piece.copy is not None else 0
    return 0 if is_counted else piece.largest - piece.filled - opens


def _is_larger(scene: Scene, piece: Slice) -> bool:
    """Whether the broker was last seen to have an order larger than it was made: it may fill so before it shrinks."""
    if piece.known is None or piece.known.ticket.quantity <= piece.asked.quantity:
        return False
    scene.state.ask_books.add(scene.name)
    return True


def _is_proved(scene: Scene) -> bool:
    """Whether what is held is sure: an entry that works on the closing side may have closed it, and its news be lost.

    The book tells; where it cannot be read the sweep goes without it after a while.
    """
    share, read_at = scene.share, scene.account.read_at
    if share.excess_since is None or not share.may_be_closed:
        return True
    proof, at_most = share.excess_since + copied_position.PROOF_AFTER, share.excess_since + _PROOF_AT_MOST
    if scene.at >= at_most or (read_at is not None and read_at >= proof):
        return True
    scene.wake(proof)
    scene.wake(at_most)
    if scene.at >= proof:
        scene.state.ask_books.add(scene.name)
    return False


def _sweep_is_due(scene: Scene) -> bool:
    share = scene.share
    if share.sweeps_failed >= len(_SWEEP_PAUSES):
        _say(scene, f"holds {scene.surplus} that is to be closed; the exits failed: close it by hand")
        return False
    if not is_open_now(scene):
        scene.wake(scene.at + _CLOSED_PAUSE)
        _say(scene, f"holds {scene.surplus} that is to be closed, and the market is closed")
        return False
    return _sweep_may_follow(scene)


def _sweep_may_follow(scene: Scene) -> bool:
    """After a sweep that failed, or never reached the broker, the next one waits a while."""
    share = scene.share
    pause = _SWEEP_PAUSES[share.sweeps_failed]
    if share.sweeps_void:
        pause = max(pause, timedelta(seconds=RETRY_PAUSES[min(share.sweeps_void, len(RETRY_PAUSES)) - 1]))
    if share.swept_at is None or scene.at >= share.swept_at + pause:
        return True
    scene.wake(share.swept_at + pause)
    return False


def _say(scene: Scene, text: str) -> None:
    say_once(scene, Level.CRITICAL, text, _matter(scene))


def _matter(scene: Scene) -> str:
    return f"sweep-{scene.state.named(scene.holding.key.security)}"


def _has_got_out_since(scene: Scene, piece: Slice) -> bool:
    """Whether the leader was in when a resting exit of a plan was placed and is no more, or all is to be closed."""
    if scene.share.flatten:
        return True
    if left_late.is_off(scene.state):
        return False
    return piece.was_due and not copied_position.due_in(scene.share, -piece.asked.side.sign)


def _chase(scene: Scene, piece: Slice) -> Want | None:
    """Price a sweep anew that rests; one that was to have its price, only once the leader is out."""
    if not piece.order_id or piece.in_flight is not None or piece.unknown or piece.cancelling or piece.detached:
        return None
    if scene.account.blocked is not None or scene.instrument is None:
        return None
    held = copied_position.held(scene.holding, scene.share, -piece.asked.side.sign)
    if sum(each.remaining for each in scene.share.sweeps if each.asked.side is piece.asked.side) > held:
        say_taken(scene, piece)
        return want_cancel(scene, piece, f"only {held} is left to close")
    is_of_a_plan = piece.first_asked.order_type is not OrderType.MARKET and not piece.instead_of_market
    if is_of_a_plan and not _has_got_out_since(scene, piece):
        return None
    rules = rules_of(scene.state)
    wanted = replace(piece.asked, order_type=OrderType.MARKET, price=ZERO)
    if times_repriced(piece) is not None:
        since = piece.accepted_at or piece.placed_at
        wait = timedelta(seconds=rules.market_wait_seconds)
        if scene.at < since + wait:
            scene.wake(since + wait)
            return None
        wanted = repriced(scene, piece, wanted, rules.reprice_attempts)
    if wanted == piece.refused_modify:
        if wanted.order_type is not OrderType.MARKET:
            return None
        return want_cancel(scene, piece, "it rests, and to make it a market order was refused")
    if (wanted == piece.asked and not piece.is_doubtful) or not is_due(scene, piece):
        return None
    why = "it still rests"
    return Want(Rank.EXIT, Modify(scene.name, piece.leader_order_id, piece.correlation_id, piece.order_id, wanted, why))
