"""The leader's exit has found its price and the follower's has not: it may not rest there for the rest of the day."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Command,
    Event,
    FixOrdered,
    Level,
    Modify,
    OrderSeen,
    Refused,
    Source,
    Unanswered,
    Verb,
)
from copytrader.core.in_force import whole_second
from copytrader.core.model import (
    Calendar,
    CopyRules,
    Desk,
    LateExits,
    OrderStatus,
    OrderType,
    RefusalClass,
    Session,
    Side,
    Ticket,
)
from tests.core.play import START, D, Held, Play, follower, ticket
from tests.core.test_answers import unanswered

ONE = follower(ratio="1")
TARGET = ticket(Side.SELL, price="104")
STOP = ticket(Side.SELL, price="90", order_type=OrderType.STOP_LOSS, trigger_price=D(91))


def leaves(terms: Ticket, **changes: object) -> tuple[Play, Held]:
    """A follower with a resting exit, whose leader has just got out."""
    play = Play(followers=(ONE,), **changes)  # type: ignore[arg-type]
    play.trades("IN", terms.quantity // 75)
    play.places("OUT", terms)
    play.leader_fills("OUT")
    return play, play.of()[-1]


def leaves_before_ten(seconds: int) -> tuple[Play, Held]:
    """The leader gets out so many seconds before the market closes, which it does at ten."""
    calendar = Calendar({"NSE_FNO": Session(555, 600)}, {}, (START.year,))
    play = Play(followers=(ONE,))
    play.state.desk = Desk("1000000001", (ONE,), CopyRules(), calendar)
    play.now = START - timedelta(minutes=2)
    play.trades("IN", 2)
    play.places("OUT", TARGET)
    play.now = START - timedelta(seconds=seconds)
    play.leader_fills("OUT")
    return play, play.of()[-1]


def modified(play: Play) -> list[str]:
    return [str(each.ticket.order_type) for each in play.decisions if isinstance(each, Modify)]


@pytest.mark.parametrize("terms", [TARGET, STOP], ids=["target", "stop"])
def test_it_goes_to_market_after_a_wait(terms: Ticket) -> None:
    play, resting = leaves(terms)
    play.waits(4.9)
    assert modified(play) == []

    play.waits(0.1)
    assert modified(play) == ["MARKET"]
    assert [each.level for each in play.alerts() if resting.order_id in each.text] == [Level.WARNING]

    play.fills()
    play.waits(600)
    assert (play.lots(), len(play.of()), modified(play)) == (0, 2, ["MARKET"])


def test_it_is_priced_anew_where_the_market_order_rests_too() -> None:
    play, _ = leaves(TARGET)

    play.waits(60)

    assert modified(play) == ["MARKET", "LIMIT", "LIMIT", "LIMIT"]
    assert any("still rests" in each.text for each in play.alerts() if each.level is Level.CRITICAL)


def test_one_that_fills_within_the_wait_is_not_touched() -> None:
    play, resting = leaves(TARGET)
    play.waits(4)
    play.fills()
    play.waits(600)

    assert (play.lots(), modified(play), resting.ticket.price) == (0, [], D(104))


def test_it_waits_while_the_leader_s_still_works() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 4)
    play.places("OUT", ticket(Side.SELL, 300, "104"))
    play.leader_fills("OUT", 225)

    play.waits(600)

    assert modified(play) == []


def test_a_part_goes_too_though_the_leader_keeps_the_rest() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 4)
    play.places("OUT", ticket(Side.SELL, 150, "104"))
    play.leader_fills("OUT")
    play.waits(6)
    play.fills()

    assert (play.lots(), modified(play)) == (2, ["MARKET"])


def test_an_entry_that_rests_stays_at_its_price() -> None:
    play = Play(followers=(ONE,))
    play.places("IN")
    play.leader_fills("IN")

    play.waits(600)

    assert (modified(play), play.of()[0].is_open) == ([], True)


def test_the_close_does_not_turn_it_back() -> None:
    """What is sent to a closed exchange is refused."""
    play, resting = leaves_before_ten(seconds=12)
    play.waits(6)
    assert modified(play) == ["MARKET"]

    play.waits(60)

    assert (modified(play)[1:], resting.ticket.price) == (["LIMIT"] * 3, D("97.80"))


def test_it_stays_where_late_exits_are_off_and_that_is_said() -> None:
    rules = CopyRules(enforce_hours=False, late_exits=LateExits.SKIP)
    play, resting = leaves(TARGET, rules=rules)

    play.waits(600)

    assert (modified(play), resting.is_open) == ([], True)
    assert [each.level for each in play.alerts() if resting.order_id in each.text] == [Level.CRITICAL]


def refuses(play: Play) -> None:
    """The broker takes no modification."""

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Modify):
            return None
        piece = command.account, command.correlation_id
        return Refused(play.now, *piece, Verb.MODIFY, RefusalClass.OTHER, "DH-906", "Order cannot be modified")

    play.answer = answer


def test_one_that_may_not_be_changed_is_cancelled_and_placed_anew() -> None:
    play, resting = leaves(TARGET)
    refuses(play)

    play.waits(10)

    anew = play.of()[-1]
    assert (resting.status, anew.ticket.order_type) == (OrderStatus.CANCELLED, OrderType.MARKET)
    play.fills()
    assert play.lots() == 0


def test_an_order_through_zero_keeps_its_entry_at_its_price_and_the_exit_is_swept() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    play.places("OVER", ticket(Side.SELL, 300, "104"))
    play.leader_fills("OVER")

    play.waits(4)
    assert len(play.of()) == 2
    play.waits(4)
    play.reads_book("asha")  # the order may have filled unheard

    _, over, sweep = play.of()
    assert (over.ticket.quantity, over.ticket.price) == (150, D(104))
    assert (sweep.ticket.quantity, sweep.ticket.order_type) == (150, OrderType.MARKET)
    play.fills()
    play.waits(60)
    assert play.lots() == -2


def test_it_waits_for_the_market_to_open() -> None:
    play, resting = leaves_before_ten(seconds=3)

    play.waits(60)

    assert (modified(play), resting.is_open) == ([], True)


def tells(play: Play, held: Held, *, price: str = "", last: str = "") -> None:
    """A frame of a follower's order: the price that the broker made of a market order, and the last one of the market."""
    order = held.seen()
    if price:
        order = replace(order, ticket=replace(order.ticket, order_type=OrderType.LIMIT, price=D(price)))
    order = replace(order, updated_at=play.now + timedelta(seconds=1), last_price=D(last) if last else None)
    play.feed(OrderSeen(play.now, held.account, order, Source.STREAM))


def prices(play: Play) -> list[str]:
    return [str(each.ticket.price) for each in play.decisions if isinstance(each, Modify)]


def test_a_new_price_is_reckoned_from_the_newest_that_a_follower_s_frame_told() -> None:
    """The leader's last frame is minutes old."""
    play, resting = leaves(TARGET)
    play.waits(5)
    tells(play, resting, last="85")

    play.waits(5)

    assert prices(play) == ["0", "84.15"]


@pytest.mark.parametrize(("side", "made", "anew"), [(Side.SELL, "84.15", "83.30"), (Side.BUY, "120", "121.20")])
def test_a_new_price_is_beyond_the_one_that_rests(side: Side, made: str, anew: str) -> None:
    """What rests at a price proves that the market is not there."""
    play = Play(followers=(ONE,))
    play.trades("IN", -2 * side.sign)
    play.places("OUT", ticket(side, price="100"))
    play.leader_fills("OUT")
    play.waits(5)
    tells(play, play.of()[-1], price=made)

    play.waits(5)

    assert prices(play) == ["0", anew]


def test_what_is_said_of_two_slices_is_said_once_of_each() -> None:
    rules = CopyRules(enforce_hours=False, late_exits=LateExits.SKIP)
    play, _ = leaves(ticket(Side.SELL, 75 * 40, "104"), rules=rules)
    play.waits(6)
    for _ in range(10):
        play.waits(5)
        play.reads_leader_book()
        play.reads_book("asha")

    assert sum("still rests" in each.text for each in play.alerts()) == 2


def test_what_is_held_too_much_is_said_again_when_it_happens_again() -> None:
    rules = CopyRules(enforce_hours=False, late_exits=LateExits.SKIP)
    play = Play(followers=(ONE,), rules=rules)
    for _ in range(2):
        play.trades(f"IN-{play.now}", 2)
        play.held_before -= 150  # the leader's exit is never heard of
        play.reads_leader_book()
        play.waits(60)
        play.reads_leader_book()
        play.waits(60)
        play.trades_by_hand(-2)

    assert sum("late exits are off" in each.text for each in play.alerts()) == 2


def test_an_exit_that_rests_at_the_lowest_price_is_said() -> None:
    play, resting = leaves(TARGET)
    play.waits(5)
    tells(play, resting, price="0.05", last="0.05")

    play.waits(60)

    assert prices(play) == ["0", "0.05"]
    assert any("there is no lower price" in each.text for each in play.alerts() if each.level is Level.CRITICAL)


def shows(play: Play, held: Held, price: str, *, later: float = 0, filled: int = 0) -> None:
    """The book shows a follower's order at a price that the broker, or a lagging copy of its book, has of it."""
    row = replace(held.seen(), ticket=replace(held.ticket, order_type=OrderType.LIMIT, price=D(price)))
    status = OrderStatus.PART_TRADED if filled else OrderStatus.PENDING
    at = whole_second(play.now) + timedelta(seconds=later)
    row = replace(row, status=status, filled_quantity=filled, updated_at=at, average_price=D(price) if filled else D(0))
    play.feed(BookRead(play.now, held.account, (row,)))


def test_the_price_that_the_broker_made_of_a_market_order_is_no_change_by_hand() -> None:
    """A part fills at it in the second in which the next price is accepted, before that is in the book."""
    play, resting = leaves(TARGET)
    play.waits(5)
    tells(play, resting, price="84.15")
    play.waits(5)
    assert prices(play) == ["0", "83.30"]

    shows(play, resting, "84.15", filled=75)

    assert play.skips("DETACHED") == []


def test_a_row_that_lags_behind_two_modifications_does_not_make_the_newest_one_foreign() -> None:
    """The first is not answered and comes late; the second is accepted; the book shows the first, then the second."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    play.now += timedelta(seconds=2)

    def unanswered(command: Command) -> Event | None:
        name = command.account, command.correlation_id
        return Unanswered(play.now, *name, Verb.MODIFY, "no answer") if isinstance(command, Modify) else None

    play.answer = unanswered
    play.modifies("L1", price=D(101))
    shows(play, held, "100")
    play.answer = None
    play.modifies("L1", price=D(102))
    shows(play, held, "101", later=1)
    shows(play, held, "102", later=1)

    assert play.skips("DETACHED") == []


def test_a_market_order_that_the_book_does_not_show_is_asked_for_again() -> None:
    """The broker makes a limit of it at a price of its own; the old price is none of those."""
    play, resting = leaves(TARGET)

    def lost(command: Command) -> Event | None:
        name = command.account, command.correlation_id
        return Unanswered(play.now, *name, Verb.MODIFY, "no answer") if isinstance(command, Modify) else None

    play.answer = lost
    play.waits(5)
    shows(play, resting, "104")
    play.answer = None
    play.waits(2)

    assert modified(play)[:2] == ["MARKET", "MARKET"]
    assert resting.ticket.order_type is OrderType.MARKET


def test_a_market_order_that_was_accepted_and_is_not_there_is_swept() -> None:
    play, resting = leaves(TARGET, rules=CopyRules(enforce_hours=False, market_wait_seconds=20))

    def taken(command: Command) -> Event | None:
        name = command.account, command.correlation_id
        return Accepted(play.now, *name, Verb.MODIFY, command.order_id) if isinstance(command, Modify) else None

    play.answer = taken
    play.waits(20)
    for _ in range(4):
        shows(play, resting, "104")
        play.waits(4)

    assert resting.status is OrderStatus.CANCELLED
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def test_a_modification_that_was_refused_unclearly_and_made_is_not_taken_for_one_by_hand() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    play.places("OUT", TARGET)
    resting = play.of()[-1]
    play.now += timedelta(seconds=2)
    refuses(play)
    play.modifies("OUT", price=D(110))
    shows(play, resting, "110", later=1)
    play.answer = None

    play.leader_fills("OUT")
    play.waits(6)

    assert play.skips("DETACHED") == []
    assert modified(play)[-1] == "MARKET"


def test_a_sweep_waits_until_the_order_beside_it_is_seen_to_be_smaller() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    play.places("OVER", ticket(Side.SELL, 300, "104"))
    over = play.of()[-1]
    play.leader_fills("OVER")

    def taken(command: Command) -> Event | None:
        name = command.account, command.correlation_id
        return Accepted(play.now, *name, Verb.MODIFY, command.order_id) if isinstance(command, Modify) else None

    play.answer = taken
    play.waits(20)
    assert len(play.of()) == 2

    play.fills()
    play.waits(20)
    assert (play.lots(), over.status) == (-2, OrderStatus.TRADED)
    assert len(play.of()) == 2


def test_a_plan_s_limit_goes_to_market_though_the_leader_got_out_before_it_was_placed() -> None:
    """It waits for the cancel of the exit in whose place it comes; it was ordered while the leader was in."""
    play = Play()
    play.trades("E", 4)
    play.places("X", ticket(Side.SELL, 300, "105"))
    resting = play.of()[-1]
    play.answer = unanswered(play, Cancel)
    plan = ticket(Side.SELL, 150, "100")
    play.feed(FixOrdered(play.now, "asha", "p1", (plan,), (resting.order_id,), 1, play.now))
    play.leader_fills("X")
    play.answer = None
    play.dies(resting)
    play.waits(3)

    assert [(each.ticket.order_type, each.ticket.quantity) for each in play.of() if each.is_open] == [
        (OrderType.MARKET, 150)
    ]
    play.fills()
    assert play.lots() == 0


def test_an_exit_that_filled_before_the_entry_that_it_covers_is_not_sold_again_and_again() -> None:
    """The follower's orders fill ahead of the leader's: what the target sold too early is bought back, once."""
    play = Play()
    play.places("L1", ticket(Side.BUY, 300, "98"))
    bid = play.of()[0]
    play.fills_follower(bid, 75)
    play.places("L2", ticket(Side.SELL, 150, "105"))
    play.fills_follower(play.of()[-1], 75)
    play.drain()
    play.modifies("L2", quantity=300)
    for _ in range(20):
        for held in play.of():
            if held.is_open and held is not bid:
                play.fills_follower(held, 75)
        play.drain()
        play.waits(1)
        play.reads_book("asha")

    assert sum(held.filled for held in play.of() if held.ticket.side is Side.SELL) <= 150
    assert play.lots() == 0

    play.leader_fills("L1")
    play.fills()
    play.waits(2)
    play.leader_fills("L2")
    play.fills()
    play.waits(5)
    play.fills()
    assert play.lots() == 0
