"""The leader gets out of a part while something of an entry still works: what is held must follow what the leader has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import (
    BookRead,
    Cancel,
    Command,
    Event,
    Modify,
    OrderSeen,
    Place,
    Sized,
    Skip,
    Source,
    Started,
    TokenRefused,
    Unanswered,
    Verb,
)
from copytrader.core.model import (
    LEADER,
    Desk,
    Limits,
    Order,
    OrderKind,
    OrderStatus,
    OrderType,
    Position,
    Product,
    RefusalClass,
    Side,
    Sizing,
    SizingMode,
)
from tests.core.play import NIFTY, D, Held, Play, follower, instrument, ticket

ONE = follower(ratio="1")
MARKET = {"price": "0", "order_type": OrderType.MARKET}


def settles(play: Play, seconds: int = 120) -> None:
    """Let market orders fill and books be read until nothing more happens."""
    for _ in range(seconds // 5):
        for held in play.of():
            if held.is_open and held.ticket.order_type is OrderType.MARKET:
                fill_rest(play, held)
        play.waits(5)
        play.reads_book("asha")
        play.reads_leader_book()


def fill_rest(play: Play, held: Held) -> None:
    play.fills_follower(held, held.ticket.quantity - held.filled)
    play.drain()


def done(play: Play, order_id: str, side: Side, quantity: int, price: str = "0") -> Order:
    """The leader's order as it stands when it is first heard of: filled."""
    kind = OrderType.MARKET if price == "0" else OrderType.LIMIT
    terms = ticket(side, quantity, price, order_type=kind)
    return Order(order_id, terms, OrderStatus.TRADED, play.now, play.now, quantity, D(100), last_price=D(100))


# --- a part of an entry has filled -------------------------------------------------------------


@pytest.mark.parametrize("how", ["in order", "its last frame only", "in the book only"])
@pytest.mark.parametrize("out", [2, 3])
def test_who_got_out_of_what_had_filled_is_flat_though_the_rest_works(how: str, out: int) -> None:
    """Two of five lots have filled on both sides; the leader sells them at market, or one more."""
    play = Play((ONE,))
    play.places("L1", ticket(quantity=375))
    play.leader_fills("L1", 150)
    play.fills_follower(play.of()[0], 150)
    play.drain()
    play.waits(3)
    if how == "in order":
        play.places("X", ticket(Side.SELL, 75 * out, **MARKET))
        play.leader_fills("X")
    else:
        play.leader["X"] = full = done(play, "X", Side.SELL, 75 * out)
        if how == "its last frame only":
            play.feed(OrderSeen(play.now, LEADER, full, Source.STREAM))
    play.reads_leader_book()
    settles(play)

    assert play.lots() == play.leader_net() // 75 == 2 - out


@pytest.mark.parametrize("leader_first", [True, False])
def test_the_rest_of_an_entry_is_copied_whole_after_a_part_of_what_had_filled_is_sold(leader_first: bool) -> None:
    play = Play((ONE,))
    play.places("L1", ticket(quantity=450))
    entry = play.of()[0]
    play.leader_fills("L1", 225)
    play.fills_follower(entry, 225)
    play.drain()
    play.places("X", ticket(Side.SELL, 75, **MARKET))
    play.fills_follower(play.of()[1], 75)
    play.drain()
    play.leader_fills("X")
    settles(play, 30)
    if leader_first:
        play.leader_fills("L1")
        fill_rest(play, entry)
    else:
        fill_rest(play, entry)
        play.leader_fills("L1")
    settles(play)

    assert play.lots() == play.leader_net() // 75 == 5


# --- an entry that filled at the leader alone --------------------------------------------------


@pytest.mark.parametrize("exit_type", ["limit", "market", "stop at market"])
def test_an_entry_is_not_cut_for_what_an_exit_closes_as_well(exit_type: str) -> None:
    """The follower's entry rests though the leader's has filled; the leader sells a third; then the entry fills."""
    play = Play((ONE,))
    play.places("L1", ticket(quantity=450))
    play.leader_fills("L1")
    play.waits(20)
    if exit_type == "limit":
        play.places("X", ticket(Side.SELL, 150, "105"))
    elif exit_type == "market":
        play.places("X", ticket(Side.SELL, 150, **MARKET))
    else:
        play.places("X", ticket(Side.SELL, 150, "0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(95)))
    play.waits(1)
    play.leader_fills("X")
    for _ in range(10):
        play.waits(2)
        for held in play.of():
            if held.is_open and held.ticket.order_type is OrderType.MARKET:
                fill_rest(play, held)
                assert play.lots() >= 0
    fill_rest(play, play.of()[0])
    settles(play)
    for held in play.of():
        if held.is_open:
            fill_rest(play, held)
    settles(play)

    assert play.lots() == play.leader_net() // 75 == 4


@pytest.mark.parametrize("how", ["in order", "last frame first", "exit in the book", "both in the book"])
def test_a_market_entry_on_its_way_is_cut_or_sold_from_but_not_both(how: str) -> None:
    play = Play((ONE,))
    if how == "both in the book":
        play.leader["L1"] = done(play, "L1", Side.BUY, 450)
    else:
        play.places("L1", ticket(Side.BUY, 450, **MARKET))
        play.leader_fills("L1")
    full = done(play, "X", Side.SELL, 150, "105")
    if how == "in order":
        play.places("X", full.ticket)
        play.leader_fills("X")
    else:
        play.leader["X"] = full
    if how == "last frame first":
        play.feed(OrderSeen(play.now, LEADER, full, Source.STREAM))
    play.reads_leader_book()
    play.waits(0.1)
    play.fills()
    for _ in range(24):
        play.waits(5)
        play.fills()
        play.reads_book("asha")
        play.reads_leader_book()

    assert play.lots() == play.leader_net() // 75 == 4


@pytest.mark.parametrize(("lots", "out"), [(3, 1), (60, 20)])
def test_a_market_exit_reduces_once_where_the_entry_fills_before_the_leaders_exit(lots: int, out: int) -> None:
    play = Play((ONE,), row=instrument(freeze_quantity=0))
    play.places("L1", ticket(Side.BUY, 75 * lots, **MARKET))
    play.leader_fills("L1")
    play.places("X", ticket(Side.SELL, 75 * out, **MARKET))
    for _ in range(2):
        play.waits(0.2)
        play.fills()
    play.leader_fills("X")
    settles(play)

    assert play.lots() == play.leader_net() // 75 == lots - out


# --- an opening part that comes back -----------------------------------------------------------


def test_a_resting_entry_that_was_an_exit_for_a_while_is_an_entry_again() -> None:
    """SELL 4 rests; the leader buys 4 and sells 4 at market; then the resting order fills."""
    play = Play((ONE,))
    play.places("S", ticket(Side.SELL, 300, "120"))
    for order_id, lots in (("B", 4), ("X", -4)):
        play.trades(order_id, lots, fills=False)
        for held in play.of():
            if held.is_open and held.ticket.order_type is OrderType.MARKET:
                fill_rest(play, held)
    play.waits(30)
    assert [(held.ticket.side, held.ticket.quantity) for held in play.of() if held.is_open] == [(Side.SELL, 300)]
    play.leader_fills("S")
    for held in play.of():
        if held.is_open:
            fill_rest(play, held)
    settles(play)

    assert play.lots() == play.leader_net() // 75 == -4


@pytest.mark.parametrize("lots", [False, True], ids=["ratio", "lots"])
def test_an_opening_part_that_a_modification_took_away_comes_back_with_the_next(lots: bool) -> None:
    play = Play((follower(sizing=Sizing(SizingMode.LOTS, lots=2)) if lots else ONE,))
    play.trades("B", 2)
    play.places("S", ticket(Side.SELL, 300, "110"))
    play.modifies("S", quantity=150)
    play.waits(2)
    play.modifies("S", quantity=300)
    play.waits(2)
    play.leader_fills("S")
    for held in play.of():
        if held.is_open:
            fill_rest(play, held)
    settles(play)

    assert play.lots() == play.leader_net() // 75 == -2


@pytest.mark.parametrize("leader_first", [True, False])
def test_an_order_that_fills_at_the_follower_first_keeps_what_it_opened(leader_first: bool) -> None:
    """ASK 3 and BID 6 rest; behind the ASK the BID was to close three; it fills first."""
    play = Play((ONE,))
    play.places("ASK", ticket(Side.SELL, 225, "110"))
    play.places("BID", ticket(Side.BUY, 450, "90"))
    play.waits(3)
    bid = play.of()[1]
    if leader_first:
        play.leader_fills("BID")
        fill_rest(play, bid)
    else:
        fill_rest(play, bid)
        play.leader_fills("BID")
    settles(play)

    assert play.lots() == play.leader_net() // 75 == 6
    assert not [each for each in play.decisions if isinstance(each, Place) and each.sweep]


# --- limits and restarts -----------------------------------------------------------------------


def test_a_price_that_was_over_a_limit_and_is_not_any_more_is_copied_again() -> None:
    play = Play((follower(ratio="1", limits=Limits(max_order_value=D(33000))),))
    play.places("L1", ticket(quantity=300))
    play.modifies("L1", price=D(115))
    play.waits(3)
    assert not [held for held in play.of() if held.is_open]
    play.modifies("L1", price=D(100))
    play.waits(3)
    assert [held.ticket.quantity for held in play.of() if held.is_open] == [300]
    play.leader_fills("L1")
    play.fills()
    settles(play)

    assert play.lots() == play.leader_net() // 75 == 4


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("found", "lots"), [(2, 2), (0, 0), (-4, 0), (-6, 0), (6, 4)])
def test_what_the_leader_is_found_to_have_decides_what_is_due_though_no_order_tells_it(
    found: int, lots: int, sign: int
) -> None:
    """Of four lots less are left, none, or the other side is held; what it has bought unseen is not copied."""
    play = Play((ONE,))
    play.trades("L1", 4 * sign)
    for _ in range(3):
        play.reads_leader_book(net=75 * found * sign)
        play.waits(5)
    play.fills()
    play.waits(5)

    assert play.lots() == lots * sign


@pytest.mark.parametrize("sign", [1, -1])
def test_an_exit_closes_its_part_of_what_the_leader_was_found_to_have_more(sign: int) -> None:
    play = Play((ONE,))
    play.trades("L1", 6 * sign)
    for _ in range(3):
        play.reads_leader_book(net=75 * 12 * sign)
        play.waits(5)
    play.trades("L2", -6 * sign)
    play.waits(10)
    play.fills()

    assert play.lots() == 3 * sign
    play.trades("L3", -6 * sign)
    assert play.lots() == 0


BINA = follower("bina", "1")


def restarts(play: Play, *names: str) -> None:
    """Start anew with these followers alone."""
    play.now += timedelta(seconds=1)
    play.followers = tuple(each for each in (ONE, BINA) if each.name in names)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    for name in names:
        play.reads_book(name)
    play.reads_leader_book()
    play.waits(3)


def test_a_copy_left_open_by_a_follower_that_was_left_out_is_cancelled_when_it_is_back() -> None:
    play = Play((ONE, BINA))
    play.places("L1", ticket(quantity=300))
    restarts(play, "bina")
    play.cancels("L1")
    play.waits(5)
    play.reads_leader_book()
    restarts(play, "asha", "bina")

    assert [held.status for held in play.of("asha")] == [OrderStatus.CANCELLED]


@pytest.mark.parametrize(("out", "lots"), [(0, 4), (1, 3)])
def test_a_copy_left_open_by_a_follower_that_was_left_out_goes_on_with_what_the_leader_holds(
    out: int, lots: int
) -> None:
    """Half of it has filled; the leader's fills wholly while nobody looks after the follower's."""
    play = Play((ONE, BINA))
    play.places("L1", ticket(quantity=300))
    play.fills_follower(play.of("asha")[0], 150)
    play.drain()
    restarts(play, "bina")
    play.leader_fills("L1")
    play.fills(name="bina")
    play.waits(5)
    if out:
        play.places("L2", ticket(Side.SELL, 75 * out, "0", order_type=OrderType.MARKET))
        play.leader_fills("L2")
        play.fills(name="bina")
        play.waits(5)
    restarts(play, "asha", "bina")
    play.waits(10)
    play.fills()

    assert play.lots("asha") == play.lots("bina") == lots


def test_an_order_that_stands_in_the_book_is_not_placed_again_under_its_name() -> None:
    """The follower's client id is changed, and changed back: the journal has forgotten what the account has."""
    play = Play()
    good = play.followers
    play.places("L1", ticket(quantity=300))
    (copy,) = play.of()
    for followers in ((replace(good[0], client_id="9999999999"),), good):
        play.now += timedelta(seconds=30)
        play.followers = followers
        play.feed(Started(play.now, "test", "", Desk("1000000001", followers, play.rules)))
        if followers is good:
            play.reads_book("asha")
        else:
            play.feed(BookRead(play.now, "asha", (), ()))
            play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "DH-901"))
        play.reads_leader_book()
        play.waits(3)

    places = [each.correlation_id for each in play.decisions if isinstance(each, Place)]
    assert places.count(copy.correlation_id) == 1


@pytest.mark.parametrize("held", [0, 1])
def test_an_entry_is_cancelled_at_once_when_a_stop_makes_the_leader_flat(held: int) -> None:
    play = Play((ONE,))
    play.places("A", ticket(quantity=150))
    play.leader_fills("A")
    if held:
        play.fills_follower(play.of()[0], 75)
        play.drain()
    stop = ticket(Side.SELL, 150, "0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(95))
    play.places("S", stop)
    before = len(play.decisions)

    def unanswered(command: Command) -> Event | None:
        """Nothing is heard of what is sent about the stop: the entry must not wait for that."""
        if isinstance(command, Modify | Cancel) and command.order_id == "F2":
            verb = Verb.MODIFY if isinstance(command, Modify) else Verb.CANCEL
            return Unanswered(play.now, command.account, command.correlation_id, verb, "time ran out")
        return None

    play.answer = unanswered
    play.leader_fills("S")

    cancels = [each.order_id for each in play.decisions[before:] if isinstance(each, Cancel)]
    assert play.of()[0].order_id in cancels


def test_an_entry_that_fills_ahead_takes_no_room_from_one_that_the_leader_holds() -> None:
    """A, of four lots in two slices, has filled at the leader, who sold one; then B fills at the follower first."""
    play = Play((ONE,), row=instrument(freeze_quantity=150))
    play.places("A", ticket(quantity=300))
    play.leader_fills("A")
    play.now += timedelta(seconds=20)
    play.places("B", ticket(quantity=150, price="99"))
    play.trades("X", -1, fills=False)
    (ahead,) = [held for held in play.of() if held.ticket.price == D(99)]
    fill_rest(play, ahead)
    play.leader_fills("B")
    play.waits(2)
    for _ in range(3):
        play.fills()
        settles(play, 10)

    assert play.lots() == play.leader_net() // 75 == 5


def test_growth_that_a_limit_holds_back_is_recorded_once() -> None:
    play = Play((follower(ratio="1", limits=Limits(max_daily_loss=D(1000))),))
    play.trades("E", 2)
    play.places("S", ticket(Side.SELL, 225, "110"))
    lost = Position(NIFTY, Product.INTRADAY, 150, unrealized=D(-2000))
    play.feed(BookRead(play.now, "asha", (), (lost,)))
    play.trades("X", -1)
    before = len(play.decisions)
    for number in range(50):
        play.now += timedelta(seconds=1)
        play.feed(OrderSeen(play.now, LEADER, replace(play.leader["S"], last_price=D(100 + number)), Source.STREAM))

    assert len([each for each in play.decisions[before:] if isinstance(each, Skip | Sized)]) <= 2


def test_positions_that_are_ahead_of_a_fill_do_not_count_it_twice() -> None:
    play = Play((ONE,))
    play.places("A", ticket(quantity=150))
    play.now += timedelta(seconds=30)
    play.reads_leader_book(net=150)
    play.now += timedelta(seconds=1)
    play.leader_fills("A")
    play.fills()
    for _ in range(3):
        play.now += timedelta(seconds=30)
        play.reads_leader_book(net=150)
        play.waits(5)
        play.fills()

    assert play.lots() == 2


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("ratio", "held", "traded", "sent"),
    [
        ("1", 4, (-2, -2), (-2, -2)),
        ("1", 6, (-2, -2), (-2, -2)),
        ("0.5", 6, (-2, -2, -2), (-1, -1, -1)),
        ("1", -4, (1, 3), (1, 3)),
    ],
    ids=["all", "a part", "three", "short"],
)
def test_exits_heard_of_together_close_no_more_than_the_leader_did(
    ratio: str, held: int, traded: tuple[int, ...], sent: tuple[int, ...], restarts: bool
) -> None:
    """The stream is away, or the process; one reading of the leader's book brings all of them, and they have traded."""
    play = hears_of(ratio, held, traded, restarts=restarts)

    assert closed(play) == sorted(sent)


@pytest.mark.parametrize(
    ("ratio", "held", "traded", "sent"),
    [
        ("1", 4, (-4, 2), (-4, 2)),
        ("1", 60, (-60, 30), (-60, 30)),
        ("1", 8, (-4, 8), (-4, 8)),
        ("2", 5, (2, -2), (-3, 3)),
        ("1", -4, (4, -2), (4, -2)),
        ("1", 4, (-6, 1), (-5,)),
        ("1", 4, (-4, 2, -1), (-4, 1)),
    ],
    ids=["out, in", "out, in, many", "a part out, in", "in, out", "short", "through zero, back", "out, in, out"],
)
def test_exits_and_entries_heard_of_together_come_to_what_the_leader_has(
    ratio: str, held: int, traded: tuple[int, ...], sent: tuple[int, ...]
) -> None:
    play = hears_of(ratio, held, traded)

    assert closed(play) == sorted(sent)
    assert play.lots() == D(ratio) * play.leader_net() // 75


def hears_of(ratio: str, held: int, traded: tuple[int, ...], *, restarts: bool = False) -> Play:
    """The leader trades so many lots, one order after the other, and nobody hears of it until the book is read."""
    play = Play(followers=(follower(ratio=ratio),), row=instrument(freeze_quantity=0))
    play.trades("A", held)
    play.waits(5)
    for number, lots in enumerate(traded):
        side = Side.BUY if lots > 0 else Side.SELL
        play.leader[f"L{number}"] = done(play, f"L{number}", side, abs(lots) * 75)
        play.now += timedelta(seconds=1)
    if restarts:
        play.starts()
    else:
        play.reads_leader_book()
    settles(play)
    return play


def closed(play: Play) -> list[int]:
    """Lots of the follower's orders after the first, + bought."""
    return sorted(each.ticket.side.sign * each.ticket.quantity // 75 for each in play.of()[1:])


@pytest.mark.parametrize("out", [(-2, -2), (-1, -3)])
def test_market_exits_that_work_and_are_found_together_close_no_more_than_the_leader_does(out: tuple[int, ...]) -> None:
    play = Play(followers=(ONE,))
    play.trades("A", 4)
    for number, lots in enumerate(out):
        terms = ticket(Side.SELL, -lots * 75, **MARKET)
        play.leader[f"L{number}"] = Order(f"L{number}", terms, OrderStatus.PENDING, play.now, play.now)
    play.reads_leader_book()

    assert closed(play) == sorted(out)


@pytest.mark.parametrize(("first", "second", "filled"), [(4, 4, 3), (7, 1, 6), (6, 2, 2)])
def test_a_target_that_the_leader_has_filled_in_part_leaves_the_other_as_it_is(
    first: int, second: int, filled: int
) -> None:
    """The follower's first has still to fill as much: both together close what is held and no more."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("T1", ticket(Side.SELL, first * 75, "105"))
    play.places("T2", ticket(Side.SELL, second * 75, "106"))
    play.leader_fills("T1", filled * 75)
    play.waits(20)
    assert [each.ticket.quantity // 75 for each in play.of() if each.is_open] == [first, second]
    play.leader_fills("T1")
    play.leader_fills("T2")
    play.fills()
    play.waits(20)

    assert play.lots() == 0
    assert len([each for each in play.decisions if isinstance(each, Place)]) == 3


def test_a_market_exit_leaves_to_a_target_what_the_leader_has_filled_of_that() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("T1", ticket(Side.SELL, 525, "105"))
    play.leader_fills("T1", 450)
    play.trades("OUT", -1, fills=False)
    play.fills_follower(play.of()[-1], play.of()[-1].ticket.quantity)
    play.fills_follower(play.of()[1], 450)
    play.drain()
    play.waits(20)

    assert play.leader_net() == 75
    assert play.lots() == 1


def test_a_stop_loss_keeps_its_size_while_the_target_fills() -> None:
    """What the follower's target has not filled yet must not be left without a stop."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("SL", ticket(Side.SELL, 600, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))
    play.places("TG", ticket(Side.SELL, 600, "110"))
    play.leader_fills("TG", 450)
    play.waits(1)

    assert [each.ticket.quantity // 75 for each in play.of() if each.is_open] == [8, 8]


def scalps(play: Play, order_id: str, lots: int) -> None:
    """In and out by the legs of a super order, which are not copied."""
    for leg, side in enumerate((Side.BUY, Side.SELL)):
        play.places(f"{order_id}-{leg}", ticket(side, lots * 75), kind=OrderKind.SUPER)
        play.leader_fills(f"{order_id}-{leg}")
        play.waits(5)
        play.fills()


def test_a_super_order_in_and_out_leaves_what_is_copied_as_it_is() -> None:
    play = Play()
    play.trades("IN", 8)
    for number in range(3):
        scalps(play, f"S{number}", 8)

    assert play.leader_net() == 600
    assert play.lots() == 4
    play.trades("OUT", -8)
    assert play.lots() == 0


def test_a_super_order_that_gets_out_of_what_was_copied_is_followed() -> None:
    play = Play()
    play.trades("IN", 8)
    play.places("S", ticket(Side.SELL, 600), kind=OrderKind.SUPER)
    play.leader_fills("S")
    play.waits(5)
    play.fills()

    assert play.lots() == 0


@pytest.mark.parametrize("filled", [0, 150])
def test_a_super_order_that_was_copied_before_it_was_known_to_be_one_is_followed_out(filled: int) -> None:
    """Its frames may look like those of any order; the book names its leg."""
    play = Play()
    play.places("S", ticket(quantity=600))
    if filled:
        play.leader_fills("S", filled)
        play.fills()
    play.leader["S"] = replace(play.leader["S"], kind=OrderKind.SUPER)
    play.feed(OrderSeen(play.now, LEADER, play.leader["S"], Source.BOOK))
    play.leader_fills("S")
    play.fills()
    assert play.lots() == 4
    play.places("T", ticket(Side.SELL, 600, "110"), kind=OrderKind.SUPER)
    play.leader_fills("T")
    play.waits(5)
    play.fills()

    assert play.lots() == 0


def test_an_exit_is_a_fraction_of_what_a_super_order_opened_as_well() -> None:
    play = Play()
    play.trades("IN", 8)
    play.places("S", ticket(Side.BUY, 600), kind=OrderKind.SUPER)
    play.leader_fills("S")
    play.trades("HALF", -8)
    play.waits(5)
    play.fills()

    assert play.lots() == 2
