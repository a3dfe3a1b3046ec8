"""The safety rules of the core, each with a way to break it.

`python -m tests.core.mutate` breaks one after the other in a copy and shows which test notices.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A rule, and a snippet of a file of `copytrader/core` that without it would read otherwise."""

    rule: str
    file: str
    original: str
    broken: str


MUTATIONS = (
    Mutation(
        "an unanswered placing is not taken for one that never happened",
        "answers.py",
        "            piece.unknown = answer.verb is Verb.PLACE\n",
        "            _take_back(state, account, piece, answer.verb)\n",
    ),
    Mutation(
        "what was being sent when the process died is unknown",
        "days.py",
        "piece.unknown = piece.unknown or (piece.in_flight is Verb.PLACE and piece.known is None)",
        "piece.void = piece.in_flight is Verb.PLACE",
    ),
    Mutation(
        "not found is not absent before two minutes have passed",
        "answers.py",
        "if at - piece.placed_at < ABSENT_AFTER or piece.not_found < 2:",
        "if piece.not_found < 2:",
    ),
    Mutation(
        "one reading that does not know an order proves nothing",
        "answers.py",
        "or piece.not_found < 2:",
        "or piece.not_found < 1:",
    ),
    Mutation(
        "an order that turns up late is cancelled",
        "sightings.py",
        "    if not (piece.absent and piece.ended is not None):\n        return\n",
        "    if piece.correlation_id:\n        return\n",
    ),
    Mutation(
        "an order with our name but other terms is not adopted",
        "sightings.py",
        "    if not piece.order_id and not _matches(piece, order):",
        "    if not piece.order_id and not _matches(piece, order) and piece.ended:",
    ),
    Mutation(
        "an entry that has a reason not to be copied is not placed",
        "gap.py",
        "    if copy.skip is not None and not _has_waited_for_room(copy):\n        return False\n",
        "",
    ),
    Mutation(
        "what was refused is used up",
        "state.py",
        "        return self.asked.quantity\n\n\n@dataclass(slots=True)\nclass Copy:",
        "        return self.filled\n\n\n@dataclass(slots=True)\nclass Copy:",
    ),
    Mutation(
        "a refused order is not sent again in another size",
        "gap.py",
        "    if any(piece.is_refused and _differs_in_quantity_only(piece.asked, order.known.ticket) for piece in copy.slices):\n",
        "    if not copy.slices:\n",
    ),
    Mutation(
        "a refused entry does not grow",
        "fold.py",
        "    if not copy.is_refused:\n        copy.skip = None\n",
        "    copy.skip = None\n",
    ),
    Mutation(
        "a failing sweep is given up",
        "sweeps.py",
        "    if share.sweeps_failed >= len(_SWEEP_PAUSES):",
        "    if share.sweeps_failed >= 100 * len(_SWEEP_PAUSES):",
    ),
    Mutation(
        "a refused modification is not repeated",
        "gap.py",
        "    if wanted == piece.refused_modify:\n        return None\n",
        "",
    ),
    Mutation(
        "an unanswered modification is sent again",
        "gap.py",
        "    if wanted == piece.asked and not piece.is_doubtful:\n",
        "    if wanted == piece.asked:\n",
    ),
    Mutation(
        "an order too large that cannot be made smaller is cancelled",
        "gap.py",
        "    if wanted == piece.refused_modify and wanted.quantity < piece.largest:",
        "    if wanted == piece.refused_modify and wanted.quantity < 0:",
    ),
    Mutation(
        "at most 24 modifications of one order",
        "gap.py",
        "    if piece.modifications >= MOST_MODIFICATIONS:",
        "    if piece.modifications >= 10 * MOST_MODIFICATIONS:",
    ),
    Mutation(
        "one command at a time for an order",
        "gap.py",
        "    if not piece.order_id or piece.in_flight is not None or piece.unknown or",
        "    if not piece.order_id or piece.unknown or",
    ),
    Mutation(
        "nothing grows while a sibling's quantity is uncertain",
        "gap.py",
        "    if any(piece.is_open and (is_changing(piece) or piece.detached) for piece in copy.slices):\n        return False\n",
        "",
    ),
    Mutation(
        "a cancel is repeated until the broker reports the end",
        "scene.py",
        "    if piece.cancelling and not is_due(scene, piece):",
        "    if piece.cancelling:",
    ),
    Mutation(
        "the copy of a dead leader order is cancelled",
        "gap.py",
        "    return order.known.is_dead or copy.closed is not None",
        "    return copy.closed is not None",
    ),
    Mutation(
        "an order ends when the broker says so, not when it has filled what was asked last",
        "outcomes.py",
        "    if known.ended is None and not (known.is_filled and piece.filled >= piece.largest):",
        "    if known.ended is None and piece.filled < piece.asked.quantity:",
    ),
    Mutation(
        "what the leader's position does not justify is swept",
        "sweeps.py",
        "    share, quantity = scene.share, scene.surplus\n",
        "    share, quantity = scene.share, 0\n",
    ),
    Mutation(
        "a sweep waits while an answer is awaited on its side",
        "sweeps.py",
        "    if any(is_unsettled(piece) for piece in share.open.values() if piece.asked.side is side):\n        return 0\n",
        "",
    ),
    Mutation(
        "an entry is given up when the leader gets out before it filled",
        "gap.py",
        "    granted = min(copy.units - opened, scene.room[sign])\n",
        "    granted = copy.units - opened\n",
    ),
    Mutation(
        "an exit leaves out what others will close",
        "exposure.py",
        "    claimed = excess + being_closed(holding, share, order.known.ticket.side, order) + ahead\n",
        "    claimed = ahead\n",
    ),
    Mutation(
        "what an entry has filled ahead of the leader's is not there to be closed",
        "exposure.py",
        "being_closed(holding, share, order.known.ticket.side, order) + ahead\n",
        "being_closed(holding, share, order.known.ticket.side, order)\n",
    ),
    Mutation(
        "an exit never exceeds the broker's net position",
        "exposure.py",
        "        total = min(total, _without(share.net * sign, copy) + behind + cover)\n",
        "        total += 0\n",
    ),
    Mutation(
        "a sweep never sells what the broker does not hold",
        "exposure.py",
        "    return min(copied, max(share.net * sign, 0))\n",
        "    return copied\n",
    ),
    Mutation(
        "an exit is a fraction of what is held, not the leader's quantity",
        "exposure.py",
        "        total = _fraction(holding, order, divided, held, cover, lot_size)\n",
        "        total = held\n",
    ),
    Mutation(
        "what the person closed by hand is not held from copying",
        "exposure.py",
        "    share.by_hand += closed\n",
        "",
    ),
    Mutation(
        "what the person sells is its own first",
        "exposure.py",
        "        share.against += max(quantity - own, 0)\n",
        "        share.against += quantity\n",
    ),
    Mutation(
        "an exit that fills before the news of its entry has not turned the position",
        "outcomes.py",
        "known.average_price, closes)\n",
        "known.average_price)\n",
    ),
    Mutation(
        "slices that wait for the budget are not forgotten",
        "fold.py",
        "        if not order.known.is_dead and _is_behind(state, order, copy):\n            return False\n",
        "",
    ),
    Mutation(
        "an order that becomes a market order is asked for at market before it is chased",
        "pricing.py",
        " or _times_repriced(piece) is None:\n",
        ":\n",
    ),
    Mutation(
        "a stop that was gapped through its limit goes to market",
        "pricing.py",
        "    return scene.at >= wait\n",
        "    return False\n",
    ),
    Mutation(
        "entries that wait for their turn count for the limits",
        "state.py",
        "        return max(self.units - sum(piece.opens for piece in self.slices if not piece.void), 0)\n",
        "        return 0\n",
    ),
    Mutation(
        "an order through zero opens nothing that an entry may not",
        "gap.py",
        "        total.opens = opening\n",
        "        pass\n",
    ),
    Mutation(
        "a new price is held against the limits of an order",
        "gap.py",
        "    if over is not None and piece.copy is not None:\n",
        "    if over is not None and piece.copy is None:\n",
    ),
    Mutation(
        "a halt holds back no exit that is on its way",
        "days.py",
        "copy.is_open and not _gets_out_now(order):",
        "copy.is_open:",
    ),
    Mutation(
        "exits come back with the copying",
        "days.py",
        "                        copy.closed = None\n",
        "                        pass\n",
    ),
    Mutation(
        "a modification that the book goes on not showing was refused",
        "sightings.py",
        "    if source is Source.BOOK and contradicts(piece, order):\n",
        "    if source is Source.BOOK and contradicts(piece, order) and piece.absent:\n",
    ),
    Mutation(
        "what a plan made up for is not copied again",
        "fixing.py",
        "(is_covered or leader.opened):\n",
        "is_covered:\n",
    ),
    Mutation(
        "shares that the person sold are not sold again",
        "sightings.py",
        "        exposure.close_by_hand(share, share.against)\n",
        "        pass\n",
    ),
    Mutation(
        "a book proves whether an overtaken entry has filled",
        "exposure.py",
        "        share.overtaken, share.overtaken_at = 0, None\n",
        "        pass\n",
    ),
    Mutation(
        "an exit does not count on an entry that the rest of an earlier one may use up",
        "exposure.py",
        "    against = _rests_of_entries(share, order)\n",
        "    against = 0\n",
    ),
    Mutation(
        "what filled beyond the quantity asked for had the one from before",
        "outcomes.py",
        "        return piece.asked_before[-1].quantity - piece.opens_before\n",
        "        return piece.asked.quantity - piece.opens\n",
    ),
    Mutation(
        "a sweep waits for the book where an entry may have closed the position",
        "sweeps.py",
        "    if scene.at >= at_most or (read_at is not None and read_at >= proof):\n",
        "    if scene.at >= share.excess_since:\n",
    ),
    Mutation(
        "a sweep goes in the end though the book cannot be read",
        "sweeps.py",
        "    if scene.at >= at_most or (read_at is not None and read_at >= proof):\n",
        "    if read_at is not None and read_at >= proof:\n",
    ),
    Mutation(
        "a new price outside the band is not asked for",
        "gap.py",
        "    return limits.bad_terms(order.known.ticket, scene.instrument) or limits.over_order(\n",
        "    return limits.over_order(\n",
    ),
    Mutation(
        "the first frame of a day turns it",
        "fold.py",
        "            turn_day(state, at, news)\n            see(",
        "            see(",
    ),
    Mutation(
        "a position opened anew after a failure is swept again",
        "outcomes.py",
        "    if share.copied == 0 or was_flat:\n",
        "    if share.copied == 0:\n",
    ),
    Mutation(
        "an exit whose new price is refused is said",
        "pricing.py",
        '        _say_it_rests(scene, piece, "a new price was refused")\n',
        "        pass\n",
    ),
    Mutation(
        "what an exit opens is said",
        "sightings.py",
        "        _say_opened(order, news)\n",
        "        pass\n",
    ),
    Mutation(
        "a copy that may not grow keeps its size",
        "judging.py",
        "            scene.desk.decide(_as_before(scene, order, copy))\n",
        "",
    ),
    Mutation(
        "a size by risk waits for the capital",
        "judging.py",
        "        _wait_for_capital(scene, order, copy)\n        return None\n",
        '        return Sized(scene.name, order.known.order_id, 0, opens, ZERO, carry, side, "")\n',
    ),
    Mutation(
        "an order that was let go for a skip is looked at again once it has a copy",
        "fold.py",
        "        holding.active[place.leader_order_id] = copy.leader  #",
        "        pass  #",
    ),
    Mutation(
        "a doubted reading that a fill confirms is forgotten",
        "exposure.py",
        "    if holding.leader_net == holding.doubted:\n        holding.doubted = None\n",
        "",
    ),
    Mutation(
        "two readings that prove something lie apart",
        "books.py",
        "    if is_less and exposure.awaits_reading(holding) and at",
        "    if False and at",
    ),
    Mutation(
        "an answer that names another order proves nothing",
        "answers.py",
        "            if answer.verb is Verb.PLACE and _belongs_to_another(",
        "            if False and _belongs_to_another(",
    ),
    Mutation(
        "the leader's position is taken for less only when read twice",
        "books.py",
        "    if is_less and holding.doubted is None and any(",
        "    if False and any(",
    ),
    Mutation(
        "a sweep that we cancel has not failed",
        "outcomes.py",
        "        elif ended is not OrderStatus.TRADED and not piece.cancelling:\n",
        "        elif ended is not OrderStatus.TRADED:\n",
    ),
    Mutation(
        "an exit does not count on an entry that may never have arrived",
        "state.py",
        "        return max(self.may_open - doubtful, 0)\n",
        "        return self.may_open\n",
    ),
    Mutation(
        "what was adopted is what is left of the day's copies",
        "books.py",
        "        share.due = share.copied if net * share.copied > 0 else 0\n",
        "        pass\n",
    ),
    Mutation(
        "a sweep that rests closes no more than is left",
        "sweeps.py",
        '        return want_cancel(scene, piece, f"only {held} is left to close")\n',
        "        pass\n",
    ),
    Mutation(
        "the frame of a refusal leaves it to the book which terms there are",
        "sightings.py",
        "        piece.maybe.append(attempted)\n",
        "",
    ),
    Mutation(
        "positions take no more from the copied position than the person traded",
        "exposure.py",
        "    closed = min(quantity, share.against, abs(share.left))\n",
        "    closed = min(quantity, abs(share.left))\n",
    ),
    Mutation(
        "an order that was seen is there, whatever its placing is answered",
        "answers.py",
        "        _doubt(state, account, piece, answer, at)\n        return\n",
        "        _doubt(state, account, piece, answer, at)\n",
    ),
    Mutation(
        "a cancel does not wait for the answer to a placing that is seen to work",
        "sightings.py",
        "        piece.in_flight, piece.accepted_at = None, at\n",
        "        piece.accepted_at = at\n",
    ),
    Mutation(
        "a modification that the exchange refuses later is not tried again",
        "sightings.py",
        "        refuse_modification(piece, order.note, news)\n",
        "        return\n",
    ),
    Mutation(
        "an entry is rounded down",
        "judging.py",
        "    lots = max(floor(pool), 0)\n    detail",
        "    lots = max(floor(pool + Decimal('0.999')), 0)\n    detail",
    ),
    Mutation(
        "what was rounded off is carried to the next entry",
        "judging.py",
        "    pool = carry + exact\n",
        "    pool = exact\n",
    ),
    Mutation(
        "carry ends when the leader is flat",
        "fold.py",
        "            if share.carry:\n",
        "            if share.carry and share.flatten:\n",
    ),
    Mutation(
        "what a leader's entry opened and is closed again is not due",
        "exposure.py",
        "            order.standing = _times(order.standing, factor)\n",
        "",
    ),
    Mutation(
        "a terminal status never un-happens",
        "merge.py",
        "    if not status.is_terminal:\n        return ended\n",
        "    if not status.is_terminal:\n        return None\n",
    ),
    Mutation(
        "filled is the highest seen",
        "merge.py",
        "    filled = max(known.filled_quantity, order.filled_quantity)\n",
        "    filled = order.filled_quantity\n",
    ),
    Mutation(
        "only Pending and Modified frames, and the book, tell an order's terms",
        "merge.py",
        "    if source is Source.STREAM and order.status not in _FRAMES_WITH_TERMS:\n        return kept\n",
        "",
    ),
    Mutation(
        "the newest terms win",
        "merge.py",
        "order.updated_at < known.terms_at",
        "order.updated_at.year < known.terms_at.year",
    ),
    Mutation(
        "an order of ours is never a leader's order",
        "judging.py",
        "        return SkipReason.OWN_COPY,",
        "        return None if known else SkipReason.OWN_COPY,",
    ),
    Mutation(
        "an old market entry is not copied",
        "judging.py",
        "    if (exposure.is_immediate(order) or known.is_done) and age > most:",
        "    if known.is_done and age > 100 * most:",
    ),
    Mutation(
        "halted, nothing is opened",
        "gap.py",
        "    if scene.account.halted:\n        scene.desk.skip",
        "    if scene.account.blocked:\n        scene.desk.skip",
    ),
    Mutation(
        "without a token nothing is sent",
        "gap.py",
        "    if scene.account.blocked is not None or copy.closed is not None:",
        "    if copy.closed is not None:",
    ),
    Mutation(
        "an order changed by hand is left alone",
        "sightings.py",
        "    piece.detached = True\n    detail",
        "    piece.detached = False\n    detail",
    ),
    Mutation(
        "an instrument that nobody knows is not copied",
        "judging.py",
        "    if scene.instrument is None or scene.instrument.multiplier is None:",
        "    if scene.instrument is not None and scene.instrument.multiplier is None:",
    ),
    Mutation(
        "every open order can be cancelled within the rate limits",
        "budget.py",
        "        reserve = open_orders + 1 if rank is Rank.ENTRY",
        "        reserve = 0 if rank is Rank.ENTRY",
    ),
    Mutation(
        "the limits of the minute, the hour and the day are kept",
        "budget.py",
        "return minute > min(reserve, _MINUTE_RESERVE_AT_MOST) and hour > reserve and day > reserve",
        "return True",
    ),
    Mutation(
        "the broker's rate limits are kept",
        "budget.py",
        "        if second <= _RESERVE_SECOND[rank]:\n            return False\n",
        "",
    ),
    Mutation(
        "only the broker ends a cancel",
        "answers.py",
        "                state.ask_books.add(piece.follower)\n                end_piece(state, account, piece, news)",
        "                if answer.verb is Verb.CANCEL:\n"
        "                    close_piece(state, account, piece, OrderStatus.CANCELLED)",
    ),
    Mutation(
        "what is held for a day is forgotten with the day",
        "days.py",
        "        if holding.key.product not in _CARRIED:",
        "        if holding.key.product in _CARRIED:",
    ),
    Mutation(
        "what survives is changed by facts alone",
        "sightings.py",
        "        copy_of(found, name)\n        state.share(holding, name)\n",
        "        copy_of(found, name)\n",
    ),
    Mutation(
        "shares that a reading does not show are not sold for that",
        "books.py",
        "or (row is not None and row.whole) or",
        "or True or",
    ),
    Mutation(
        "a sale of shares opens nothing",
        "exposure.py",
        "    order.only_exits = only_sells(order) or (",
        "    order.only_exits = (",
    ),
    Mutation(
        "an exit that never left is tried until it goes",
        "gap.py",
        "    if len(void) >= _MOST_FAILED_PLACINGS and not exits:",
        "    if len(void) >= _MOST_FAILED_PLACINGS:",
    ),
    Mutation(
        "it is said that nothing leaves",
        "answers.py",
        "            _say_unreached(account, piece, answer.detail, news)\n",
        "            pass\n",
    ),
)
