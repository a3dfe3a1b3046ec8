"""What the leader did, heard of order by order or all at once: the followers end with the same.

The stream is away, or the process; then one reading of the leader's book brings a dozen orders that have traded, one
after the other.  What they come to must not depend on that, nor may a follower hold more meanwhile than any
order of events explains.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import NamedTuple

import pytest

from copytrader.core.facts import OrderSeen, Source
from copytrader.core.model import LEADER, Order, OrderStatus, OrderType, Side, Ticket
from tests.core.play import D, Play, follower, instrument, ticket

LOT = 75


class Act(NamedTuple):
    """An order of the leader: lots (- sells), and whether it traded or was cancelled."""

    lots: int
    order_type: OrderType
    trades: bool = True

    def order(self, play: Play, order_id: str, *, over: bool) -> Order:
        price = "0" if self.order_type is OrderType.MARKET else "100"
        side = Side.BUY if self.lots > 0 else Side.SELL
        terms = ticket(side, abs(self.lots) * LOT, price, order_type=self.order_type)
        status = OrderStatus.TRADED if self.trades else OrderStatus.CANCELLED
        filled = terms.quantity if over and self.trades else 0
        at = play.now
        return Order(
            order_id, terms, status if over else OrderStatus.PENDING, at, at, filled, D(100), last_price=D(100)
        )


def drawn(random: Random, held: int) -> list[Act]:
    """Entries and exits, some through zero; what closes is at market, for a limit would wait for its price."""
    acts, net = list[Act](), held
    for _ in range(random.randint(2, 10)):
        if net and random.random() < 0.6:
            lots = random.choice([abs(net), abs(net), random.randint(1, abs(net)), abs(net) + random.randint(1, 3)])
            lots = -lots if net > 0 else lots
        else:
            lots = random.randint(1, 6) * random.choice([1, 1, 1, -1])
        opens = not net or lots * net > 0
        limit = opens and random.random() < 0.4
        act = Act(lots, OrderType.LIMIT if limit else OrderType.MARKET, not limit or random.random() < 0.7)
        acts.append(act)
        net += act.lots if act.trades else 0
    return acts


def begun(ratio: str, held: int) -> Play:
    play = Play(followers=(follower(ratio=ratio),), row=instrument(LOT, freeze_quantity=0))
    if held:
        play.trades("A", held)
    play.waits(3)
    play.reads_book("asha")
    play.reads_leader_book()
    return play


def one_by_one(ratio: str, held: int, acts: list[Act]) -> Play:
    play = begun(ratio, held)
    for number, act in enumerate(acts):
        for over in (False, True):
            order = act.order(play, f"L{number}", over=over)
            play.leader[order.order_id] = order
            play.feed(OrderSeen(play.now, LEADER, order, Source.STREAM))
            play.now += timedelta(seconds=0.2)
        settles(play, 2)
    settles(play, 12)
    return play


def at_once(ratio: str, held: int, acts: list[Act], *, restarts: bool) -> tuple[Play, list[int]]:
    """Return the play, and what the follower held after each fill, where exits fill first and entries last."""
    play = begun(ratio, held)
    for number, act in enumerate(acts):
        play.leader[f"L{number}"] = act.order(play, f"L{number}", over=True)
        play.now += timedelta(seconds=0.3)
    play.waits(2)
    if restarts:
        play.starts()
    else:
        play.reads_leader_book()
    return play, settles(play, 12, exits_first=True)


def settles(play: Play, times: int, *, exits_first: bool = False) -> list[int]:
    held = [play.lots()]
    for _ in range(times):
        for each in sorted(play.of(), key=lambda each: exits_first and each.ticket.side.sign * held[0] > 0):
            if each.is_open:
                play.fills_follower(each, each.ticket.quantity - each.filled)
                held.append(play.lots())
        play.drain()
        play.waits(5)
        play.reads_book("asha")
        play.reads_leader_book()
    return held


def cases(count: int) -> list[tuple[int, str, int]]:
    randoms = [Random(f"together {seed}") for seed in range(count)]
    return [
        (seed, each.choice(["1", "1", "0.5", "2", "1.5"]), each.choice([0, 0, 2, 4, 8, -4, -6]))
        for seed, each in enumerate(randoms)
    ]


@pytest.mark.parametrize(("seed", "ratio", "held"), cases(400))
def test_what_is_heard_of_at_once_comes_to_what_is_heard_of_one_by_one(seed: int, ratio: str, held: int) -> None:
    acts = drawn(Random(seed), held)
    alone = one_by_one(ratio, held, acts)
    together, seen = at_once(ratio, held, acts, restarts=False)

    assert abs(together.lots() - alone.lots()) <= (0 if ratio == "1" else 1), (acts, seen)
    stays_within(ratio, held, acts, seen)
    if not together.leader_net():
        assert together.lots() == alone.lots() == 0, (acts, seen)


@pytest.mark.parametrize(("seed", "ratio", "held"), cases(400))
def test_who_begins_again_gets_out_and_enters_nothing(seed: int, ratio: str, held: int) -> None:
    acts = drawn(Random(seed), held)
    play, seen = at_once(ratio, held, acts, restarts=True)

    assert all(0 <= lots <= seen[0] or 0 >= lots >= seen[0] for lots in seen), (acts, seen)
    if not play.leader_net():
        assert play.lots() == 0, (acts, seen)


def stays_within(ratio: str, held: int, acts: list[Act], seen: list[int]) -> None:
    """Hold what a follower held against the most and the least that the leader held."""
    net, nets = held, [held, 0]
    for act in acts:
        net += act.lots if act.trades else 0
        nets.append(net)
    assert D(ratio) * min(nets) - 1 <= min(seen) <= max(seen) <= D(ratio) * max(nets) + 1, (acts, seen)


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize(
    "behind",
    [
        ticket(Side.SELL, 300, "94", trigger_price=D(95), order_type=OrderType.STOP_LOSS),
        ticket(Side.SELL, 300, "105"),
    ],
    ids=["stop", "target"],
)
def test_an_entry_is_one_though_the_exit_behind_it_is_heard_of_first(behind: Ticket, *, is_swapped: bool) -> None:
    play = Play()
    later = play.now + timedelta(seconds=1)
    entry = Order("E", ticket(quantity=300), OrderStatus.PENDING, play.now, play.now, last_price=D(101))
    leaving = Order("X", behind, OrderStatus.PENDING, later, later, last_price=D(101))
    play.waits(1.1)
    play.leader |= {"E": entry, "X": leaving}
    for each in (leaving, entry) if is_swapped else (entry, leaving):
        play.feed(OrderSeen(play.now, LEADER, each, Source.STREAM))
    play.leader_fills("E")
    for held in play.of():
        if held.ticket.side is Side.BUY:
            play.fills_follower(held, held.ticket.quantity)
    play.drain()
    play.waits(30)

    assert play.lots() == 2
    assert [(each.ticket.side, each.ticket.quantity) for each in play.of() if each.is_open] == [(Side.SELL, 150)]
    play.leader_fills("X")
    play.fills()
    play.waits(30)
    assert (play.lots(), len(play.of())) == (0, 2)
