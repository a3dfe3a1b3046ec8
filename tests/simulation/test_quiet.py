"""Twelve hours in which nothing happens: nothing is alerted, opened anew, recorded over and over or sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from copytrader.core.facts import Alert, Command, Connected, Disconnected
from tests.simulation.swarm import draw
from tests.simulation.world import World, limits_of, listening, run

HOURS = 12


def test_a_quiet_account_stays_quiet_for_twelve_hours(tmp_path: Path) -> None:
    busy = draw(1)
    swarm = replace(
        busy,
        poll_seconds=5.0,
        order_fault_rate=0.0,
        read_fault_rate=0.0,
        stream_fault_rate=0.0,
        crashes=(),
        extras=frozenset(),
        on_disk=False,
    )
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


def test_the_journal_is_put_in_order_after_a_busy_time_when_nothing_is_on_its_way(tmp_path: Path) -> None:
    outcome = run(13, tmp_path)

    assert outcome.problems == ()
    assert outcome.counts["checkpoint"] > 0
