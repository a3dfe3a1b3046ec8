"""What is heard of the accounts: what proves that there is no order, and what a reading must have to count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count

import pytest

from copytrader.core.facts import BookRead, Command, Event, FrameRefused, NotFound, Place, Unanswered, Verb
from copytrader.core.model import Order, OrderStatus, Side
from copytrader.dhan.answers import Outcome
from copytrader.dhan.bodies import Profile
from tests.test_copier import Bench, Scene, played


class Odd(Bench):
    """Answers no order, and has rows in its book that cannot be read, of which it says something."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.problems: Callable[[], tuple[str, ...]] = tuple
        self.sent: list[Place] = []
        self.asked = self.read = 0

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        self.read += 1
        return tuple(self.rows.values()), self.problems()

    async def find(self, correlation_id: str) -> Order | None:
        self.asked += 1
        return None

    async def _fill(self, command: Command) -> Outcome:
        assert isinstance(command, Place)
        self.sent.append(command)
        return Unanswered(self._now(), command.account, command.correlation_id, Verb.PLACE, "no answer")


def odd(scene: Scene) -> None:
    """Put one in the place of asha's broker."""
    broker = scene.copier.accounts["asha"].broker = scene.brokers["asha"] = Odd(scene.now)
    broker.belongs_to = "asha"


def asha(scene: Scene) -> Odd:
    broker = scene.brokers["asha"]
    assert isinstance(broker, Odd)
    return broker


def not_found(scene: Scene) -> list[Event]:
    return [event for event in scene.told if isinstance(event, NotFound)]


# --- Looking for an order -----------------------------------------------------------------


def test_a_book_with_a_row_that_cannot_be_read_does_not_say_that_there_is_no_order() -> None:
    """The row may be the one that is looked for."""

    async def story(scene: Scene) -> None:
        broker = asha(scene)
        scene.trades("L1", Side.BUY, 150)
        broker.problems = lambda: ("row 1: quantity is missing or 0",)
        await asyncio.sleep(180)
        assert broker.asked > 2
        assert not_found(scene) == []
        broker.problems = tuple
        await asyncio.sleep(60)
        assert not_found(scene)

    played(story, before=odd)


def test_an_order_in_the_book_that_bears_our_name_is_never_not_found() -> None:
    """It has another quantity than was asked for: it is not taken for ours, and no proof that there is none."""

    async def story(scene: Scene) -> None:
        broker = asha(scene)
        scene.trades("L1", Side.BUY, 150)
        await asyncio.sleep(0.1)
        (place,) = broker.sent
        terms, at = replace(place.ticket, quantity=750), scene.now()
        broker.rows["F0"] = Order("F0", terms, OrderStatus.PENDING, at, at, correlation_id=place.correlation_id)
        await asyncio.sleep(240)
        assert broker.asked > 2
        assert not_found(scene) == []

    played(story, before=odd)


def test_no_order_is_looked_for_with_the_token_of_another_account() -> None:
    async def story(scene: Scene) -> None:
        broker = asha(scene)
        scene.trades("L1", Side.BUY, 150)
        scene.copier.accounts["asha"].profile = Profile("somebody-else", None, ())
        await asyncio.sleep(240)
        assert broker.asked == 0
        assert not_found(scene) == []

    played(story, before=odd)


# --- What a reading must have ---------------------------------------------------------------


@pytest.mark.parametrize("changes", [False, True])
def test_positions_count_beside_rows_that_no_attempt_can_read_and_not_beside_others(changes: bool) -> None:
    """What can be read in no attempt is a part of the position alone; what changes may be read the next time."""

    def before(scene: Scene) -> None:
        odd(scene)
        numbers = count()
        asha(scene).problems = lambda: (f"row {next(numbers) if changes else 1}: quantity is missing or 0",)

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 150)
        await asyncio.sleep(20)

    scene = played(story, before=before)
    assert scene.copier.state.accounts["asha"].ready is not changes
    assert len(asha(scene).sent) == (0 if changes else 1)


def test_a_frame_that_cannot_be_read_has_the_book_read_at_once() -> None:
    async def story(scene: Scene) -> None:
        broker = asha(scene)
        await asyncio.sleep(5)
        before = broker.read
        scene.lines["asha"].tells("{")
        await asyncio.sleep(1)
        assert any(isinstance(event, FrameRefused) for event in scene.told)
        assert broker.read > before

    played(story, poll_seconds=600, before=odd)


def test_after_a_reconnect_the_book_comes_before_the_frames() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(5)
        scene.told.clear()
        asha(scene).net = 75
        scene.lines["asha"].log_in()
        scene.lines["asha"].tells("{")
        await asyncio.sleep(5)
        kinds = [type(event) for event in scene.told if isinstance(event, BookRead | FrameRefused)]
        assert kinds[:2] == [BookRead, FrameRefused]

    played(story, poll_seconds=600, before=odd)
