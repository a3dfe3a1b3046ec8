"""Shares that are delivered: no reading shows all of them, and none that is missing from one is taken for sold."""

from __future__ import annotations

from datetime import timedelta

import pytest

from copytrader.core.facts import BookRead, OrderSeen, Place, Role, Source, Started
from copytrader.core.model import (
    LEADER,
    Desk,
    Instrument,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)
from tests.core.play import START, D, Play, follower

NSE, BSE = Security("NSE_EQ", "2885"), Security("BSE_EQ", "500325")


def share(security: Security = NSE) -> Instrument:
    return Instrument(security, "RELIANCE", 1, D("0.1"), 0, 1, "RELIANCE", "EQUITY")


def terms(side: Side, quantity: int, product: Product = Product.CNC, security: Security = NSE) -> Ticket:
    return Ticket(security, side, product, OrderType.LIMIT, Validity.DAY, quantity, D(1300))


def carried(product: Product = Product.CNC, security: Security = NSE) -> Play:
    """The leader and asha bought a hundred shares yesterday."""
    play = Play(followers=(follower(ratio="1"),), row=share(security))
    play.places("L1", terms(Side.BUY, 100, product, security))
    play.leader_fills("L1")
    play.fills()
    play.now = START + timedelta(days=1)
    play.leader.clear()
    play.feed(BookRead(play.now, "asha", (), (Position(security, product, 100),)))
    return play


def reads(play: Play, *rows: Position, holdings: bool = True) -> None:
    play.feed(BookRead(play.now, LEADER, (), rows, holdings=holdings))
    play.waits(5)
    play.fills()


def leader_net(play: Play) -> int | None:
    (holding,) = (each for each in play.state.holdings.values() if each.key.security == NSE)
    return holding.leader_net


def net(play: Play) -> int | None:
    (holding,) = (each for each in play.state.holdings.values() if each.key.security == NSE)
    return holding.shares["asha"].net


def places(play: Play) -> list[Place]:
    return [each for each in play.decisions if isinstance(each, Place)]


@pytest.mark.parametrize("holdings", [True, False])
@pytest.mark.parametrize(("product", "security"), [(Product.CNC, NSE), (Product.CNC, BSE), (Product.MTF, NSE)])
def test_shares_that_no_reading_shows_are_not_sold(product: Product, security: Security, holdings: bool) -> None:
    play = carried(product, security)
    reads(play, holdings=holdings)
    reads(play, holdings=holdings)

    assert play.positions == {"asha": 100}
    assert ["RELIANCE" in each.text for each in play.alerts()] == [True]


def test_a_reading_of_the_day_alone_does_not_say_how_much_is_held() -> None:
    """Sold forty of what was carried: without the holdings the account shows -40, with ten bought it shows 10."""
    for net in (-40, 10):
        play = carried()
        reads(play, Position(NSE, Product.CNC, net, whole=False))
        assert play.positions == {"asha": 100}


def test_what_the_demat_account_shows_is_believed() -> None:
    play = carried()
    reads(play, Position(NSE, Product.CNC, 40))

    assert play.positions == {"asha": 40}
    assert play.alerts() == []


def test_fills_that_were_seen_close_what_no_reading_shows() -> None:
    play = carried(Product.MTF)
    reads(play)
    play.places("L2", terms(Side.SELL, 50, Product.MTF))
    play.leader_fills("L2")
    play.fills()
    reads(play, Position(NSE, Product.MTF, -50, whole=False))
    assert play.positions == {"asha": 50}

    play.places("L3", terms(Side.SELL, 50, Product.MTF))
    play.leader_fills("L3")
    play.fills()
    assert play.positions == {"asha": 0}


def test_a_reading_is_believed_where_nobody_holds_anything_from_copying() -> None:
    """Sold on a day on which nothing was copied: the next entry and its exit are of the same size."""
    play = carried()
    play.places("L2", terms(Side.SELL, 100))
    play.leader_fills("L2")
    play.fills()
    play.feed(BookRead(play.now, LEADER, (), (Position(NSE, Product.CNC, 70),)))
    reads(play, holdings=False)
    assert leader_net(play) == 70

    reads(play)
    assert leader_net(play) == 0
    assert play.alerts() == []


@pytest.mark.parametrize("bought", [0, 100])
def test_a_sale_of_shares_that_nobody_knew_of_is_no_entry(bought: int) -> None:
    play = Play(followers=(follower(ratio="1"),), row=share(), begin=False)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.state.instruments[NSE] = share()
    play.reads_book("asha")
    play.feed(BookRead(play.now, LEADER, (), (), holdings=False))
    if bought:
        play.places("L1", terms(Side.BUY, bought))
        play.leader_fills("L1")
        play.fills()
    play.places("L2", terms(Side.SELL, 150))
    play.leader_fills("L2")
    play.fills()
    play.waits(5)

    assert [each for each in places(play) if each.role is Role.ENTRY and each.ticket.side is Side.SELL] == []
    assert play.positions == {"asha": 0}
    if not bought:
        assert [each.reason for each in play.skips()] == ["NOTHING_TO_EXIT"]
        assert ["RELIANCE" in each.text for each in play.alerts()] == [True]

    play.feed(BookRead(play.now, LEADER, (), (Position(NSE, Product.CNC, 60),)))
    play.places("L3", terms(Side.BUY, 60))
    play.leader_fills("L3")
    play.fills()
    play.places("L4", terms(Side.SELL, 60))
    play.leader_fills("L4")
    play.fills()
    assert play.positions == {"asha": 30}


def test_shares_sold_before_the_start_were_held_before() -> None:
    """The account shows the day's sale without the shares: nothing is owed, and the next sale is no entry."""
    play = Play(followers=(follower(ratio="1"),), row=share())
    play.reads_leader_book(0)
    play.places("L1", terms(Side.SELL, 40))
    play.leader_fills("L1")
    play.feed(BookRead(play.now, LEADER, (), (Position(NSE, Product.CNC, -40, whole=False),)))

    assert leader_net(play) == 0
    assert play.of() == []


def test_a_followers_holdings_that_cannot_be_read_are_unknown() -> None:
    play = carried()
    play.starts()
    play.feed(BookRead(play.now, "asha", (), (Position(NSE, Product.CNC, -5, whole=False),), holdings=False))
    assert net(play) is None

    play.feed(BookRead(play.now, "asha", (), (Position(NSE, Product.CNC, 95),)))
    assert net(play) == 95

    play.feed(BookRead(play.now, "asha", (), ()))
    assert net(play) is None


@pytest.mark.parametrize("own", [0, 100])
def test_shares_that_the_person_sold_are_not_sold_again(own: int) -> None:
    """What it sells is its own first, and the positions would not show what is missing."""
    play = Play(followers=(follower(ratio="1"),), row=share())
    if own:
        play.feed(BookRead(play.now, "asha", (), (Position(NSE, Product.CNC, own),)))
    play.places("L1", terms(Side.BUY, 100))
    play.leader_fills("L1")
    play.fills()
    sold = Order("OWN", terms(Side.SELL, 100), OrderStatus.TRADED, play.now, play.now, 100, D(1300), "NA")
    play.feed(OrderSeen(play.now, "asha", sold, Source.STREAM))
    play.places("L2", terms(Side.SELL, 100))

    assert sum(each.ticket.quantity for each in places(play) if each.ticket.side is Side.SELL) == own


@pytest.mark.parametrize("product", [Product.CNC, Product.MTF])
def test_shares_that_the_person_sold_are_not_sold_again_though_no_reading_shows_any(product: Product) -> None:
    play = Play(followers=(follower(ratio="1"),), row=share())
    play.places("L1", terms(Side.BUY, 100, product))
    play.leader_fills("L1")
    play.fills()
    play.feed(BookRead(play.now, "asha", (), ()))
    assert net(play) is None
    sold = Order("OWN", terms(Side.SELL, 60, product), OrderStatus.TRADED, play.now, play.now, 60, D(1300), "NA")
    play.feed(OrderSeen(play.now, "asha", sold, Source.STREAM))
    play.places("L2", terms(Side.SELL, 100, product))

    assert [each.ticket.quantity for each in places(play) if each.ticket.side is Side.SELL] == [40]
