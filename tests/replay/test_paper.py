"""The fill model: a follower's order fills like the leader's, at the leader's prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from copytrader.core.copies import Key
from copytrader.core.engine import step
from copytrader.core.facts import Accepted, Cancel, Command, Modify, OrderSeen, Place, Refused, Role, Source, Verb
from copytrader.core.model import LEADER, Order, OrderStatus, RefusalClass
from copytrader.core.state import State
from copytrader.paper import FillModel, PaperMarket
from tests.core.play import NIFTY, Play, ticket

D = Decimal


class Scene:
    """A state in which the leader trades, and a market on paper that watches it."""

    def __init__(self, model: FillModel | None = None) -> None:
        self.play = Play()
        self.market = PaperMarket(model or FillModel())
        self.seen: list[OrderSeen] = []

    @property
    def state(self) -> State:
        return self.play.state

    def leader(self, status: OrderStatus, filled: int = 0, average: str = "0", order_id: str = "L1") -> None:
        order = Order(
            order_id, ticket(quantity=600), status, self.play.now, self.play.now, filled, D(average), last_price=D(101)
        )
        event = OrderSeen(self.play.now, LEADER, order, Source.STREAM)
        step(self.state, event)
        self.seen += self.market.due(event, self.state)

    def sends(self, command: Command) -> Accepted | Refused:
        answer = self.market.answer(command, self.play.now)
        self.seen += self.market.due(answer, self.state)
        return answer

    def places(self, quantity: int = 300, name: str = "ct1-a", **changes: object) -> Accepted | Refused:
        place = Place("asha", "L1", name, ticket(quantity=quantity), Role.ENTRY)
        return self.sends(replace(place, **changes))  # type: ignore[arg-type]

    @property
    def last(self) -> tuple[str, int, Decimal]:
        order = self.seen[-1].order
        return order.status, order.filled_quantity, order.average_price


def test_an_order_rests_until_the_leader_s_fills() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)

    answer = scene.places()

    assert isinstance(answer, Accepted)
    assert answer.order_id.startswith("DRY")
    assert scene.last == ("PENDING", 0, D(0))


@pytest.mark.parametrize(("filled", "expected"), [(75, 0), (150, 75), (300, 150), (450, 225), (525, 225)])
def test_a_partial_fill_is_taken_in_whole_lots(filled: int, expected: int) -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    scene.places()
    scene.leader(OrderStatus.PART_TRADED, filled, "99.5")

    order = scene.seen[-1].order
    assert order.filled_quantity == expected
    assert order.average_price == (D("99.5") if expected else 0)


def test_the_leader_s_whole_fill_fills_it_at_the_leader_s_average() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    scene.places()
    scene.leader(OrderStatus.PART_TRADED, 300, "99")
    scene.leader(OrderStatus.TRADED, 600, "99.75")

    assert scene.last == ("TRADED", 300, D("99.75"))


def test_an_order_that_comes_after_the_leader_s_fill_fills_at_once() -> None:
    scene = Scene()
    scene.leader(OrderStatus.TRADED, 600, "99.75")
    scene.places()

    assert scene.last == ("TRADED", 300, D("99.75"))


def test_slices_fill_one_after_the_other() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    scene.places(150, "ct1-a")
    scene.places(150, "ct1-b")
    scene.leader(OrderStatus.PART_TRADED, 450, "99")

    assert [(each.order.correlation_id, each.order.filled_quantity) for each in scene.seen[-2:]] == [
        ("ct1-a", 150),
        ("ct1-b", 75),
    ]


def test_what_filled_before_a_cancel_counts_for_the_order_placed_anew() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    first = scene.places(300, "ct1-a")
    assert isinstance(first, Accepted)
    scene.leader(OrderStatus.PART_TRADED, 300, "99")
    scene.sends(Cancel("asha", "L1", "ct1-a", first.order_id, renew=True))
    scene.places(150, "ct1-b")
    assert scene.last == ("PENDING", 0, D(0))
    scene.leader(OrderStatus.PART_TRADED, 450, "99")

    assert scene.last == ("PART_TRADED", 75, D(99))


def test_a_sweep_fills_at_the_last_price_known() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    scene.places(75, "ct1-s", sweep=True, leader_order_id="flat-x")

    assert scene.last == ("TRADED", 75, D(101))


def test_slippage_is_against_the_follower_on_either_side() -> None:
    for side, price in (("BUY", "99.85"), ("SELL", "99.65")):
        scene = Scene(FillModel(slippage_ticks=2))
        scene.leader(OrderStatus.TRADED, 600, "99.75")
        scene.places(ticket=replace(ticket(quantity=300), side=type(ticket().side)(side)))

        assert scene.last == ("TRADED", 300, D(price))


def test_a_modified_and_a_cancelled_order_say_so() -> None:
    scene = Scene()
    scene.leader(OrderStatus.PENDING)
    placed = scene.places()
    assert isinstance(placed, Accepted)
    scene.sends(Modify("asha", "L1", "ct1-a", placed.order_id, ticket(quantity=300, price="98")))
    assert scene.seen[-1].order.ticket.price == 98
    scene.sends(Cancel("asha", "L1", "ct1-a", placed.order_id))
    assert scene.last == ("CANCELLED", 0, D(0))
    again = scene.sends(Cancel("asha", "L1", "ct1-a", placed.order_id))

    assert isinstance(again, Refused)
    assert again.refusal is RefusalClass.ENDED
    scene.leader(OrderStatus.TRADED, 600, "99")
    assert scene.last == ("CANCELLED", 0, D(0))


def test_the_book_and_the_positions_on_paper_agree_with_the_fills() -> None:
    scene = Scene()
    scene.leader(OrderStatus.TRADED, 600, "99")
    scene.places()

    (row,) = scene.market.rows("asha")
    assert row == scene.seen[-1].order
    assert scene.market.nets("asha") == {Key(NIFTY, row.ticket.product): 300}
    assert scene.market.rows("ravi") == ()


def test_a_new_day_s_book_is_empty_and_positions_stay() -> None:
    scene = Scene()
    scene.leader(OrderStatus.TRADED, 600, "99")
    scene.places()
    scene.play.now += timedelta(days=1)
    scene.places(75, "ct1-b", leader_order_id="L2", sweep=True)

    assert [row.correlation_id for row in scene.market.rows("asha")] == ["ct1-b"]
    assert list(scene.market.nets("asha").values()) == [375]


def test_an_order_that_is_really_at_the_broker_can_be_cancelled_on_paper() -> None:
    """A dry run after a live one: the order ends for the dry run, and nothing is said to the broker."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    market = PaperMarket()
    answer = market.answer(Cancel("asha", "L1", held.correlation_id, held.order_id), play.now)
    assert isinstance(answer, Accepted)
    assert answer.verb is Verb.CANCEL

    (seen,) = market.due(answer, play.state)
    assert (seen.order.order_id, seen.order.status) == (held.order_id, OrderStatus.CANCELLED)


def test_chance_refuses_about_its_share() -> None:
    model = FillModel(reject_rate=0.2, seed=7)
    refused = sum(model.refuses(f"ct1-{number}") for number in range(2000))

    assert 320 < refused < 480
