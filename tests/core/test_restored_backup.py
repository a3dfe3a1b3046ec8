"""A journal that knows less than has happened: a backup is put back, and what was ordered since is taken over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core import targets
from copytrader.core.facts import Adopted, BookRead, Halted, InstrumentRead, OrderSeen, Resumed, Source, Started
from copytrader.core.model import (
    LEADER,
    Desk,
    Funds,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Side,
    Sizing,
    SizingMode,
    Units,
)
from copytrader.core.state import State
from tests.core.play import NIFTY, D, Play, follower, ticket


def one_to_one(*names: str) -> Play:
    return Play(followers=tuple(follower(name, "1") for name in names or ("asha",)))


def trades(play: Play, name: str, lots: Sequence[int]) -> None:
    """The leader trades at market, so many lots each time, - sells; the followers' orders fill."""
    for number, each in enumerate(lots):
        play.trades(f"{name}{number}", each)
        play.waits(5)


def begins(play: Play, *, copying: bool = True) -> None:
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules), copying=copying))
    play.feed(InstrumentRead(play.now, play.row))


def adopts(play: Play, name: str = "asha") -> None:
    """A follower's book is read, and what bears our name and the journal does not know is taken over."""
    strays = tuple(
        each.seen() for each in play.of(name) if each.correlation_id and each.correlation_id not in play.state.slices
    )
    for order in strays:
        play.feed(OrderSeen(play.now, name, order, Source.BOOK))
    play.feed(Adopted(play.now, name, strays))
    play.reads_book(name)


def settles(play: Play) -> None:
    """Time passes, and what was sent to the broker fills."""
    for _ in range(3):
        play.waits(10)
        play.fills()
        play.reads_leader_book()


def by_follow(play: Play) -> None:
    begins(play)
    adopts(play)
    play.reads_leader_book()


def by_follow_that_reads_the_leader_first(play: Play) -> None:
    begins(play)
    play.reads_leader_book()
    adopts(play)


def by_reconcile(play: Play) -> None:
    """A session that copies nothing, and does not read the leader's book; `follow` starts afterwards."""
    begins(play, copying=False)
    adopts(play)
    play.waits(20)
    begins(play)
    play.reads_book("asha")
    play.reads_leader_book()


def by_halt(play: Play) -> None:
    begins(play, copying=False)
    play.feed(Halted(play.now))
    adopts(play)
    play.feed(Resumed(play.now))
    begins(play)
    play.reads_leader_book()
    play.reads_book("asha")


def by_follow_that_reads_the_leader_s_orders_first(play: Play) -> None:
    begins(play)
    adopts(play)
    play.feed(BookRead(play.now, LEADER, tuple(play.leader.values())))
    play.waits(5)
    play.fills()
    play.reads_leader_book()


def by_follow_that_reads_the_leader_s_positions_last(play: Play) -> None:
    begins(play)
    play.feed(BookRead(play.now, LEADER, tuple(play.leader.values())))
    adopts(play)
    play.waits(5)
    play.fills()
    play.reads_leader_book()


ROADS = [
    by_follow,
    by_follow_that_reads_the_leader_first,
    by_reconcile,
    by_halt,
    by_follow_that_reads_the_leader_s_orders_first,
    by_follow_that_reads_the_leader_s_positions_last,
]


@pytest.mark.parametrize("takes_over", ROADS)
@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize(
    ("before", "since", "left"),
    [
        ((), (4,), 4),
        ((4, -4), (4,), 4),
        ((4,), (-4, 2), 2),
        ((4,), (-2,), 2),
        ((4,), (-8,), -4),
        ((2,), (4,), 6),
        ((4,), (-4,), 0),
    ],
)
def test_what_was_adopted_is_kept_while_the_leader_is_in(
    before: Sequence[int], since: Sequence[int], left: int, is_lost: bool, takes_over: Callable[[Play], None]
) -> None:
    """Under a restored backup, and where there is none and the journal begins anew."""
    play = one_to_one()
    trades(play, "A", before)
    backup = State() if is_lost else play.state.copy()
    trades(play, "B", since)
    play.state = backup
    known = len(play.of())
    takes_over(play)
    settles(play)
    assert (play.lots(), len(play.of())) == (left, known)

    trades(play, "OUT", (-left,) if left else ())
    settles(play)
    assert play.lots() == 0


@pytest.mark.parametrize("takes_over", ROADS)
def test_what_was_adopted_is_closed_once_where_the_leader_is_out(
    takes_over: Callable[[Play], None],
) -> None:
    """The follower's exit was refused, or nobody was there to place it."""
    play = one_to_one()
    trades(play, "A", (2, -2))
    backup = play.state.copy()
    trades(play, "B", (4,))
    play.trades("OUT", -4, fills=False)
    play.rejects(play.of()[-1])
    play.state = backup
    known = len(play.of())
    takes_over(play)
    settles(play)

    assert (play.lots(), len(play.of())) == (0, known + 1)


def test_what_was_adopted_is_due_only_until_the_leader_was_read() -> None:
    """The leader gets out of a half by a way that no order shows, and the process starts again."""
    play = one_to_one()
    backup = play.state.copy()
    trades(play, "A", (4,))
    play.state = backup
    by_follow(play)
    settles(play)
    play.held_before = -150
    begins(play)
    play.reads_book("asha")
    for _ in range(2):
        play.reads_leader_book()
        play.waits(5)
    play.fills()

    assert play.lots() == 2


def test_what_was_adopted_is_kept_while_the_leader_s_positions_are_behind() -> None:
    play = one_to_one()
    trades(play, "A", (4,))
    backup = play.state.copy()
    trades(play, "B", (-4, 2))
    play.state = backup
    begins(play)
    adopts(play)
    play.reads_leader_book(net=0)
    play.waits(2)
    play.fills()
    play.waits(2)
    play.reads_leader_book()
    settles(play)

    assert play.lots() == 2


@pytest.mark.parametrize("is_behind", [True, False])
def test_what_was_adopted_is_closed_when_a_second_reading_shows_that_the_leader_is_out(is_behind: bool) -> None:
    play = one_to_one()
    trades(play, "A", (4,))
    backup = play.state.copy()
    trades(play, "B", (-4, 2))
    play.state = backup
    play.held_before = 0 if is_behind else -150
    begins(play)
    adopts(play)
    play.reads_leader_book(net=0)
    settles(play)

    assert play.lots() == (2 if is_behind else 0)


@pytest.mark.parametrize("is_read_first", [True, False])
def test_what_was_adopted_is_kept_while_the_leader_s_book_is_behind_its_positions(is_read_first: bool) -> None:
    """The leader has turned by an order through zero, and only its position shows it."""
    play = one_to_one()
    trades(play, "A", (-2,))
    backup = play.state.copy()
    play.places("B", ticket(quantity=450))
    play.fills()
    play.state = backup
    begins(play)
    if not is_read_first:
        adopts(play)
    play.reads_leader_book(net=300)
    if is_read_first:
        adopts(play)
    play.waits(2)
    play.fills()
    assert play.lots() == 4

    play.leader_fills("B")
    settles(play)
    assert play.lots() == 4
    trades(play, "OUT", (-4,))
    assert play.lots() == 0


def test_what_was_adopted_without_a_journal_is_kept_while_the_leader_s_book_is_behind_its_positions() -> None:
    play = one_to_one()
    play.places("A", ticket(quantity=300))
    play.fills()
    play.state = State()
    begins(play)
    adopts(play)
    position = Position(NIFTY, Product.INTRADAY, 300, day_bought=300)
    play.feed(BookRead(play.now, LEADER, tuple(play.leader.values()), (position,)))
    play.waits(5)
    play.fills()
    play.leader_fills("A")
    settles(play)

    assert play.lots() == 4


def test_what_was_adopted_beside_a_leader_that_is_known_is_too_much_when_that_one_has_less() -> None:
    play = one_to_one()
    backup = play.state.copy()
    trades(play, "A", (4,))
    play.state = backup
    by_follow_that_reads_the_leader_first(play)
    play.trades("OUT", -2, fills=False)
    play.rejects(play.of()[-1])
    settles(play)

    assert play.lots() == 2


def test_each_follower_keeps_what_was_adopted_for_it() -> None:
    """One can be read before the leader and one after it; the third was halted, and has nothing to be adopted."""
    play = one_to_one("asha", "ravi", "mina")
    trades(play, "A", (4,))
    play.feed(Halted(play.now, "mina"))
    backup = play.state.copy()
    trades(play, "B", (-2, 1))
    play.state = backup
    begins(play)
    adopts(play, "asha")
    adopts(play, "mina")
    play.reads_leader_book()
    adopts(play, "ravi")
    settles(play)

    assert [play.lots(name) for name in ("asha", "ravi", "mina")] == [3, 3, 2]
    trades(play, "OUT", (-3,))
    settles(play)
    assert [play.lots(name) for name in ("asha", "ravi", "mina")] == [0, 0, 0]


@pytest.mark.parametrize(("own", "left", "own_left"), [(2, 4, 2), (-1, 1, 0)])
def test_what_the_person_holds_of_its_own_is_left_alone_beside_what_was_adopted(
    own: int, left: int, own_left: int
) -> None:
    play = one_to_one()
    trades(play, "A", (4,))
    backup = play.state.copy()
    trades(play, "B", (-4, 2))
    play.trades_by_hand(own)
    play.state = backup
    by_follow(play)
    settles(play)
    assert play.lots() == left

    trades(play, "OUT", (-2,))
    settles(play)
    assert play.lots() == own_left


def test_a_stop_that_was_adopted_is_placed_anew_beside_what_is_kept() -> None:
    play = one_to_one()
    trades(play, "A", (4, -4))
    backup = play.state.copy()
    trades(play, "B", (4,))
    play.places("STOP", ticket(Side.SELL, 300, "89", order_type=OrderType.STOP_LOSS, trigger_price=D(90)))
    play.state = backup
    by_follow(play)
    play.waits(30)

    assert [(each.ticket.quantity, each.ticket.order_type) for each in play.of() if each.is_open] == [
        (300, OrderType.STOP_LOSS)
    ]
    assert [each.status for each in play.of()[-2:]] == [OrderStatus.CANCELLED, OrderStatus.PENDING]


@pytest.mark.parametrize("takes_over", ROADS)
@pytest.mark.parametrize("is_lost", [True, False])
def test_what_was_adopted_is_no_entry_that_was_missed(is_lost: bool, takes_over: Callable[[Play], None]) -> None:
    """By a size that follows the capital, a plan would buy it once more."""
    by_capital = Sizing(SizingMode.CAPITAL, capital=D(100000))
    play = Play(followers=(follower(sizing=by_capital),), funds={LEADER: Funds(D(100000), D(100000))})
    trades(play, "A", (2,))
    backup = State() if is_lost else play.state.copy()
    trades(play, "B", (4,))
    play.state = backup
    takes_over(play)
    settles(play)
    assert justified(play) == 450

    trades(play, "C", (1,))
    assert (play.lots(), justified(play)) == (7, 525)


@pytest.mark.parametrize("takes_over", ROADS)
def test_an_entry_whose_adopted_order_has_not_filled_was_missed(takes_over: Callable[[Play], None]) -> None:
    by_capital = Sizing(SizingMode.CAPITAL, capital=D(100000))
    play = Play(followers=(follower(sizing=by_capital),), funds={LEADER: Funds(D(100000), D(100000))})
    backup = play.state.copy()
    play.trades("A", 4, fills=False)
    play.state = backup
    takes_over(play)
    settles(play)

    assert (play.lots(), justified(play)) == (0, 300)


def justified(play: Play) -> Units | None:
    holding, account = next(iter(play.state.holdings.values())), play.state.accounts["asha"]
    return targets.exact(play.state, holding, account, holding.shares["asha"])


def test_last_night_s_backup_keeps_what_was_carried_and_traded_since() -> None:
    """The leader carried two lots over the night, got out of them in the morning, and is in again."""
    play = one_to_one()
    terms = ticket(Side.BUY, 150, "0", order_type=OrderType.MARKET, product=Product.MARGIN)

    def reads(account: str, net: int) -> None:
        rows = tuple(play.leader.values()) if account == LEADER else tuple(each.seen() for each in play.of())
        positions = (Position(NIFTY, Product.MARGIN, net),) if net else ()
        play.feed(BookRead(play.now, account, rows, positions))

    def acts(name: str, side: Side) -> None:
        play.places(name, replace(terms, side=side), placed_at=play.now)
        play.leader_fills(name)
        play.fills()
        play.waits(5)

    acts("A", Side.BUY)
    backup = play.state.copy()
    play.now += timedelta(days=1)
    play.leader.clear()
    play.orders.clear()
    reads("asha", 150)
    reads(LEADER, 150)
    acts("B1", Side.SELL)
    acts("B2", Side.BUY)
    play.state = backup
    begins(play)
    strays = tuple(each.seen() for each in play.of())
    play.feed(Adopted(play.now, "asha", strays))
    reads("asha", 150)
    reads(LEADER, 150)
    play.waits(10)
    play.fills()
    assert play.lots() == 2

    acts("OUT", Side.SELL)
    assert play.lots() == 0
