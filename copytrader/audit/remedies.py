"""What would have had to be different for an order to be copied."""

from __future__ import annotations

from decimal import Decimal

from copytrader.audit.words import Instruments
from copytrader.core.facts import Skip
from copytrader.core.model import Follower, SizingMode, SkipReason, Ticket
from copytrader.dhan.refusals import explain as explain_refusal


def remedy_of(skip: Skip, follower: Follower | None, ticket: Ticket | None, known: Instruments) -> str:
    """Say what would have had to be different for the copy to be made."""
    if skip.refusal is not None:
        return f"It would have been copied had the broker not refused it. {explain_refusal(skip.refusal)}"
    if skip.reason in (SkipReason.UNSUPPORTED_KIND, SkipReason.OWN_COPY):
        return "Nothing would have had it copied: such orders are not."
    return f"It would have been copied {_if(skip, follower, ticket, known)}."


def _if(skip: Skip, follower: Follower | None, ticket: Ticket | None, known: Instruments) -> str:
    where = f"followers.{skip.account}"
    match skip.reason:
        case SkipReason.BELOW_ONE_LOT:
            return _one_lot(where, follower, ticket, known)
        case SkipReason.STALE:
            return "had it been seen within copy.max_age_seconds of being placed, or had that been longer"
        case SkipReason.FILTERED:
            return f"had {where}.filter let it pass: {skip.detail}"
        case SkipReason.NOTHING_TO_EXIT:
            return "had the follower held something from copying; what it holds of its own is never touched"
        case SkipReason.UNKNOWN_INSTRUMENT:
            return "had the instrument master held it: run `copytrader instruments sync`"
        case SkipReason.LIMIT_ORDER_VALUE | SkipReason.LIMIT_ORDER_LOTS | SkipReason.LIMIT_POSITION_LOTS:
            return f"had {_limit(where, skip, follower)} been higher, or the order smaller ({skip.detail})"
        case SkipReason.LIMIT_OPEN_POSITIONS | SkipReason.LIMIT_DAILY_LOSS | SkipReason.LIMIT_ORDERS_PER_MINUTE:
            return f"had {_limit(where, skip, follower)} been higher ({skip.detail})"
        case SkipReason.MARKET_CLOSED:
            return f'within trading hours ({skip.detail}), or with copy.market_hours = "off"'
        case SkipReason.HALTED:
            return "had copying not been halted: `copytrader resume` starts it again"
        case SkipReason.LEADER_DONE:
            return "had the leader's order still been open when it was due"
        case SkipReason.RATE_BUDGET:
            return f"had the rate limits of {skip.account} left room in time: fewer orders, or fewer changes of them"
        case SkipReason.ABSENT:
            return "had the broker answered or ever shown the order; it is never sent twice"
        case SkipReason.TOKEN:
            return f"with a token that the broker accepts: run `copytrader login {skip.account}`"
        case SkipReason.DETACHED:
            return "to the end, had nobody changed it by hand"
        case _:
            return f"with other terms or in another state of the account ({skip.detail})"


def _limit(where: str, skip: Skip, follower: Follower | None) -> str:
    key = f"max_{skip.reason.removeprefix('LIMIT_').lower()}"
    value = getattr(follower.limits, key, None) if follower is not None else None
    return f"{where}.limits.{key}" + ("" if value is None else f", which was {value},")


def _one_lot(where: str, follower: Follower | None, ticket: Ticket | None, known: Instruments) -> str:
    row = None if ticket is None else known.get(ticket.security)
    if follower is None or ticket is None or row is None or follower.sizing.mode is not SizingMode.RATIO:
        return "had its share come to one lot: a larger order of the leader's, or a larger share"
    lots = Decimal(ticket.quantity) / row.lot_size
    needed = (Decimal(1) / lots).quantize(Decimal("0.0001")) if lots else Decimal(1)
    least = -(-1 // follower.sizing.ratio) if follower.sizing.ratio else Decimal(1)
    return (
        f"had {where}.sizing.ratio been at least {needed.normalize():f} without any carry, or the leader's order had "
        f"{least} lots; what was rounded off is carried to the leader's next entry"
    )
