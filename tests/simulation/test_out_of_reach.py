"""An account that cannot be read or heard for a while: it is said once, and so is its return; a short break is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.calendar import build
from copytrader.core.copies import Key
from copytrader.core.facts import Alert, BookRead, Level
from copytrader.core.model import LEADER, CopyRules, Product, Security
from copytrader.core.state import Share
from copytrader.dhan.transport import Later, Reply, Request
from tests.simulation.network import Line, Wire
from tests.simulation.swarm import draw
from tests.simulation.world import World, limits_of, listening

NOTHING = Reply(None, sent=False, detail="no connection: refused")
FAILED = Reply(500, b'{"errorCode": "DH-908", "errorMessage": "Internal Server Error"}')


class Cut:
    """Which requests and streams, by client id, do not get through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: set[tuple[str, str]] = set()
        self.streams: set[str] = set()
        send, opening = Wire.send, Line._open

        async def given(reply: Reply) -> Reply:
            return reply

        def sending(wire: Wire, request: Request) -> Awaitable[Reply]:
            if (wire._client_id, request.path) in self.requests:
                return Later(given, FAILED)
            return Later(given, NOTHING) if (wire._client_id, "") in self.requests else send(wire, request)

        async def opened(line: Line) -> None:
            if line._client_id not in self.streams:
                await opening(line)
            else:
                await asyncio.sleep(1)
                line._fail("no connection: refused")

        monkeypatch.setattr(Wire, "send", sending)
        monkeypatch.setattr(Line, "_open", opened)


@contextmanager
def quiet_world(poll_seconds: float = 5.0) -> Iterator[World]:
    """A leader and followers, and no trouble but what the test makes."""
    swarm = replace(
        draw(1),
        poll_seconds=poll_seconds,
        order_fault_rate=0.0,
        read_fault_rate=0.0,
        stream_fault_rate=0.0,
        crashes=(),
        extras=frozenset(),
        on_disk=False,
    )
    world = World(swarm)
    with listening(), limits_of(swarm):
        yield world
        world.finish()
    assert world.problems == []


def runs(world: World, seconds: float) -> None:
    world.loop.run_until(world.loop.time() + seconds)


def cut_off(world: World, cut: Cut, name: str) -> None:
    client_id = world.client_ids[name]
    cut.requests.add((client_id, ""))
    cut.streams.add(client_id)
    process = world.process
    if process is not None:
        process.lines[client_id].lose("the connection broke")


def mend(cut: Cut) -> None:
    cut.requests.clear()
    cut.streams.clear()


def alerts(world: World) -> list[Alert]:
    return [fact for _, fact in world.judge.facts if isinstance(fact, Alert)]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Cut:
    return Cut(monkeypatch)


def test_a_follower_that_is_dead_from_the_start_is_said_and_so_is_its_return(cut: Cut) -> None:
    with quiet_world() as world:
        cut_off(world, cut, "f0")
        world.begin()
        runs(world, 25)
        assert alerts(world) == []

        runs(world, 600)
        (said,) = alerts(world)
        assert (said.level, said.account) == (Level.CRITICAL, "f0")
        assert "its book cannot be read and its order stream is down; nothing is copied to it" in said.text

        mend(cut)
        runs(world, 60)
        assert [each.level for each in alerts(world)] == [Level.CRITICAL, Level.WARNING]


@pytest.mark.parametrize("from_the_start", [True, False])
def test_nothing_is_copied_from_a_leader_out_of_reach_and_that_is_said(cut: Cut, from_the_start: bool) -> None:
    with quiet_world() as world:
        if from_the_start:
            cut_off(world, cut, LEADER)
        world.begin()
        runs(world, 10)
        cut_off(world, cut, LEADER)
        runs(world, 45)
        (said,) = alerts(world)
        assert said.level is Level.CRITICAL
        assert "leader is out of reach" in said.text and "nothing is copied" in said.text
        mend(cut)


@pytest.mark.parametrize("name", [LEADER, "f0"])
def test_a_stream_that_stays_down_is_said(cut: Cut, name: str) -> None:
    with quiet_world() as world:
        world.begin()
        runs(world, 10)
        cut_off(world, cut, name)
        cut.requests.clear()
        runs(world, 45)
        assert alerts(world) == []

        runs(world, 45)
        (said,) = alerts(world)
        assert "its order stream is down" in said.text
        assert "nothing is copied" not in said.text
        mend(cut)


def test_a_short_break_is_not_said(cut: Cut) -> None:
    with quiet_world() as world:
        world.begin()
        for _ in range(5):
            runs(world, 60)
            for name in world.client_ids:
                cut_off(world, cut, name)
            runs(world, 15)
            mend(cut)
        runs(world, 60)
        assert alerts(world) == []


def test_one_reading_that_fails_is_made_again_and_not_said(cut: Cut) -> None:
    with quiet_world(poll_seconds=0) as world:
        world.begin()
        runs(world, 10)
        cut.requests.add((world.client_ids[LEADER], "/orders"))
        assert world.process is not None
        world.process.copier.accounts[LEADER].poke.set()
        runs(world, 10)
        mend(cut)
        runs(world, 60)
        assert alerts(world) == []


def test_a_book_that_shows_nothing_new_is_told_while_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether something that was not heard of has filled is known from the reading, not from what changed in it."""
    with quiet_world() as world:
        world.begin()
        runs(world, 10)
        assert world.process is not None
        state = world.process.copier.state
        state.share(state.holding(Key(Security("NSE_FNO", "40001"), Product.MARGIN)), "f0")
        told = [fact for _, fact in world.judge.facts if isinstance(fact, BookRead) and fact.account == "f0"]
        runs(world, 7)
        assert told == [fact for _, fact in world.judge.facts if isinstance(fact, BookRead) and fact.account == "f0"]
        monkeypatch.setattr(Share, "awaits_book", True)
        runs(world, 5)
        again = [fact for _, fact in world.judge.facts if isinstance(fact, BookRead) and fact.account == "f0"]
        assert len(again) == len(told) + 1
        assert again[-1].orders == ()


def test_nobody_is_missed_when_the_market_is_closed(cut: Cut) -> None:
    with quiet_world() as world:
        world.desk = replace(world.desk, rules=CopyRules(), calendar=build(None, (2026,)))
        world.begin()
        runs(world, timedelta(hours=6).total_seconds())
        cut_off(world, cut, LEADER)
        runs(world, 600)
        assert alerts(world) == []
        mend(cut)


def test_holdings_that_cannot_be_read_are_said_and_read_again(cut: Cut) -> None:
    with quiet_world() as world:
        cut.requests.add((world.client_ids[LEADER], "/holdings"))
        world.begin()
        runs(world, 300)
        (said,) = alerts(world)
        assert (said.level, said.account) == (Level.WARNING, LEADER)
        assert "its holdings cannot be read" in said.text

        mend(cut)
        runs(world, 40)
        books = [fact for _, fact in world.judge.facts if isinstance(fact, BookRead) and fact.account == LEADER]
        assert [each.holdings for each in books if each.positions is not None] == [False, True]
