"""Why a row is as it is, in words: what went otherwise with the orders of the day, and what is the follower's own.

The row's state is settled before; nothing here changes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from copytrader.core import copied_position, targets
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.reconcile.evidence import Evidence, is_lost, unaccounted
from copytrader.core.reconcile.picture import Part, RowState

_MOST_REASONS = 3


def why(evidence: Evidence, part: Part) -> str:
    if part.row.state is RowState.IN_SYNC:
        return ""
    reasons = [*_why_unexplained(evidence, part), *_why_drift(evidence, part), *_why_own(evidence, part)]
    return "; ".join(reasons)


def _why_unexplained(evidence: Evidence, part: Part) -> Iterator[str]:
    for order in evidence.strays.get((part.name, part.key), ()):
        yield f"order {order.order_id} bears our name, and the journal does not know it"
    for piece in part.share.open.values():
        if is_lost(evidence, piece):
            yield f"what became of {piece.correlation_id}, sent at {piece.placed_at:%H:%M:%S}, is not known"
    left = unaccounted(evidence, part)
    if left and (part.name, part.key) not in evidence.strays:
        yield f"{left:+} that no order of the day explains"


def _why_drift(evidence: Evidence, part: Part) -> Iterator[str]:
    if not part.need:
        return
    told = 0
    for order in sorted(evidence.orders.get(part.key, ()), key=lambda each: -each.number):
        text = _why_order(order, order.copies.get(part.name))
        if text and told < _MOST_REASONS:
            told += 1
            yield text
    if not told:
        earlier = evidence.reasons.get((part.name, part.key))
        yield earlier or (
            "carried over from an earlier day" if not evidence.orders.get(part.key) else "the copies differ"
        )


def _why_order(order: LeaderOrder, copy: Copy | None) -> str:
    """What went otherwise with one leader order; nothing where its copy did as it did."""
    known = order.known
    named = f"{known.ticket.side} {known.ticket.quantity} (order {known.order_id})"
    if copy is None or not targets.is_judged(copy):
        return f"{named} came while nothing was copied" if known.filled_quantity else ""
    if copy.is_open:
        return f"{named}: its copy is still open, {copy.filled} of {copy.total} filled"
    if copy.skip is not None and (known.filled_quantity or copy.slices):
        return f"{named}: {copy.skip.reason}: {copy.skip.detail}"
    if copy.slices and not copy.was_sent:
        return f"{named}: its copy did not reach the broker"
    asked = sum(piece.asked.quantity for piece in copy.slices if not piece.void)
    if copy.filled < asked:
        return f"{named}: its copy ended with {copy.filled} of {asked} filled"
    return ""


def _why_own(evidence: Evidence, part: Part) -> Iterator[str]:
    own, copied = part.own - part.turned, part.copied
    if part.turned:
        yield (
            f"{part.turned:+} because an exit of ours and an order of the account's own have closed the same copied "
            "position: close that by hand"
        )
    if not own:
        return
    today = evidence.foreign.get((part.name, part.key), 0)
    if copied * own < 0 and copied_position.held(part.holding, part.share, 1 if copied > 0 else -1) < abs(copied):
        yield f"{own:+} by hand: of {copied:+} from copying the broker shows {part.share.net:+}"
    elif today == own:
        yield f"{own:+} traded by hand today"
    elif part.row.state is not RowState.UNEXPLAINED:
        yield f"{own:+} of its own"
