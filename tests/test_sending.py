"""What leaves, how soon after what else, and what does not leave any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import pytest

from copytrader.account import Account, Pace
from copytrader.core.facts import Accepted, Cancel, Command, Event, Modify, NotSent, Place, Role
from copytrader.core.model import IST
from copytrader.dhan.answers import verb_of
from copytrader.dhan.stream import StreamEvent
from copytrader.sending import Sender
from tests.core.play import ticket
from tests.simulation.loop import VirtualLoop
from tests.test_copier import Bench

BEGAN = datetime(2026, 11, 23, 10, 0, tzinfo=IST)
ENTRY = Place("asha", "L1", "ct1-1", ticket(), Role.ENTRY)
EXIT = Place("asha", "L1", "ct1-2", ticket(), Role.EXIT)
MODIFY = Modify("asha", "L1", "ct1-3", "F1", ticket())
CANCEL = Cancel("asha", "L1", "ct1-4", "F1")


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


# --- The pace ---------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "at_once"), [(CANCEL, 10), (EXIT, 9), (MODIFY, 9), (ENTRY, 8)])
def test_so_many_commands_may_be_under_way_when_another_leaves(command: Command, at_once: int) -> None:
    """The last one of a second is left to cancels, the last but one to exits as well."""
    pace = Pace()
    for number in range(at_once):
        assert pace.wait(command, BEGAN) == 0
        pace.sends(number, BEGAN)

    assert pace.wait(command, BEGAN) > 0


def test_a_command_counts_until_a_second_after_its_answer() -> None:
    pace = Pace()
    for number in range(10):
        pace.sends(number, BEGAN)
    pace.answered(0, after(0.5))

    assert pace.wait(CANCEL, after(0.5)) == pytest.approx(1.02)
    assert pace.wait(CANCEL, after(1.51)) > 0
    assert pace.wait(CANCEL, after(1.53)) == 0


def test_a_command_without_an_answer_counts_for_two_seconds() -> None:
    pace = Pace()
    for number in range(10):
        pace.sends(number, BEGAN)

    assert pace.wait(CANCEL, after(1.99)) > 0
    assert pace.wait(CANCEL, after(2)) == 0


def test_a_late_answer_makes_no_command_count_longer() -> None:
    pace = Pace()
    for number in range(10):
        pace.sends(number, BEGAN)
        pace.answered(number, after(1.9))

    assert pace.wait(CANCEL, after(2)) == 0


def test_what_was_sent_before_the_clock_was_set_back_holds_nothing_up() -> None:
    pace = Pace()
    for number in range(10):
        pace.sends(number, after(3600))

    assert pace.wait(CANCEL, BEGAN) == 0


# --- The way out ------------------------------------------------------------------------


class Taker(Bench):
    """Takes every command, and says so a while later."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.got: list[Command] = []

    def send(self, command: Command) -> Awaitable[Accepted]:  # type: ignore[override]
        self.got.append(command)
        return self._answer(command)

    async def _answer(self, command: Command) -> Accepted:
        await asyncio.sleep(0.05)
        return Accepted(BEGAN, command.account, command.correlation_id, verb_of(command), "F1")


class Silent:
    async def listen(self) -> AsyncIterator[StreamEvent]:
        return
        yield

    def force_reconnect(self, reason: str) -> None: ...


class Door:
    is_broken = False

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def take(self, happened: Sequence[tuple[Event, int | None]]) -> None:
        self.heard += [event for event, _ in happened]

    def start(self, work: Awaitable[None]) -> None:
        asyncio.ensure_future(work)  # noqa: RUF006  # the loop ends with it

    def ended(self, task: asyncio.Task[None]) -> None:
        task.result()


def dispatched(commands: Sequence[Command], late: float) -> tuple[list[Command], list[Event]]:
    """Send commands that follow from what happened so many seconds ago: what the broker got, and what was heard."""
    loop = VirtualLoop()  # type: ignore[abstract]

    def now() -> datetime:
        return after(loop.time())

    async def play() -> tuple[list[Command], list[Event]]:
        broker, door = Taker(now), Door()
        sender = Sender({"asha": Account("asha", "1", broker, Silent())}, now, door)
        sends = [(number, command, now() - timedelta(seconds=late)) for number, command in enumerate(commands)]
        sender.dispatch(sends, (now(), now()))
        await sender.wait(30)
        return broker.got, door.heard

    return loop.run(play())


@pytest.mark.parametrize("command", [ENTRY, EXIT, MODIFY, CANCEL])
def test_what_was_held_up_for_two_seconds_does_not_leave_unless_it_cancels(command: Command) -> None:
    assert dispatched([command], 2.0)[0] == [command]
    got, heard = dispatched([command], 2.1)
    if command is CANCEL:
        assert got == [CANCEL]
    else:
        assert got == []
        assert [each.correlation_id for each in heard if isinstance(each, NotSent)] == [command.correlation_id]


def test_what_has_to_wait_for_its_turn_leaves_in_the_same_order_and_too_late_not_at_all() -> None:
    """Nine leave in the first second, nine in the next; the others would leave after more than two."""
    exits = [Place("asha", "L1", f"ct1-{number}", ticket(), Role.EXIT) for number in range(30)]
    got, heard = dispatched(exits, 0)

    assert got == exits[: len(got)]
    assert [each.correlation_id for each in heard if isinstance(each, NotSent)] == [
        each.correlation_id for each in exits[len(got) :]
    ]
    assert len(got) == 18
