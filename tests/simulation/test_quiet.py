"""Hours, and a night, in which nothing happens: nothing is alerted, opened anew, recorded over and over or sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from copytrader.core.facts import Alert, BookRead, Command, Connected, Disconnected, Ticked
from tests.simulation.swarm import Swarm, draw
from tests.simulation.world import START, World, limits_of, listening, run

HOURS = 12


def _quiet(poll_seconds: float) -> Swarm:
    return replace(
        draw(1),
        poll_seconds=poll_seconds,
        order_fault_rate=0.0,
        read_fault_rate=0.0,
        stream_fault_rate=0.0,
        crashes=(),
        extras=frozenset(),
        on_disk=False,
    )


def test_a_quiet_account_stays_quiet_for_twelve_hours(tmp_path: Path) -> None:
    swarm = _quiet(5.0)
    world = World(swarm, tmp_path)
    with listening() as said, limits_of(swarm):
        world.begin()
        world.loop.run_until(HOURS * 3600)
        facts = [fact for _, fact in world.judge.facts]
        kinds = Counter(type(fact).__name__ for fact in facts)

        assert world.loop.time() >= HOURS * 3600
        assert [fact for fact in facts if isinstance(fact, Alert | Command | Disconnected)] == []
        assert kinds[Connected.__name__] == len(world.client_ids)
        assert len(facts) < 100
        assert said == []
        reads = world.exchange.ledger.where(kind="request", path="/orders")
        assert len(reads) > HOURS * 3600 / 5 * len(world.client_ids) * 0.9
        world.finish()
    assert world.problems == []


def test_a_quiet_night_turns_the_day_once(tmp_path: Path) -> None:
    """With the day the money of the day is asked for, and once more before the market opens."""
    swarm = _quiet(30.0)
    world = World(swarm, tmp_path)
    with listening() as said, limits_of(swarm):
        world.begin()
        world.loop.run_until((START.replace(hour=23, minute=59) - START).total_seconds())
        evening = len(world.judge.facts)
        world.loop.run_until(24 * 3600)
        night = Counter(type(fact).__name__ for _, fact in list(world.judge.facts)[evening:])

        assert night == {Ticked.__name__: 1, BookRead.__name__: 2 * len(world.client_ids)}
        assert said == []
        world.finish()
    assert world.problems == []


def test_the_journal_is_put_in_order_after_a_busy_time_when_nothing_is_on_its_way(tmp_path: Path) -> None:
    outcome = run(13, tmp_path)

    assert outcome.problems == ()
    assert outcome.counts["checkpoint"] > 0
