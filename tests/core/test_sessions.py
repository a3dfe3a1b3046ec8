"""Random sessions, judged on the brokers' ledgers (see `world`).

`COPYTRADER_SESSIONS` sets how many are played: a few in a developer's run, 6,000 in CI, more by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copytrader.core.budget import Budget
from copytrader.core.engine import recall, step
from copytrader.core.facts import Decision, Event, Place
from copytrader.core.model import LateExits
from copytrader.core.state import State
from tests.core.world import Chances, World, reasons

SESSIONS = int(os.environ.get("COPYTRADER_SESSIONS", "600"))
BLOCKS = 10
FAILED_ONCE = (
    *(8, 28, 50, 85, 93, 100, 114, 119, 151, 157, 162, 165, 175, 212, 234, 349, 389, 401, 485, 518, 592, 694, 746),
    *(796, 802, 850, 867, 944, 1064, 1219, 1265, 1291, 1516, 1832, 1838, 1940, 2299, 2309, 2476, 2861, 3311, 3413),
    *(10782, 11706, 12598, 13046, 15508, 15863, 20581, 20681, 21500, 27640, 3000170, 6000140),
    *(10000162, 1000226, 6000421, 6000689, 5000086, 6000262, 7000214),
)
"""Seeds that have found a fault; each is played with faults and without."""
FAILED_IN_SILENCE = (2000243, 8000021, 10000129)


def play(
    seed: int, chances: Chances | None = None, silence: float = 0.0, late_exits: LateExits = LateExits.MARKET
) -> World:
    world = World(seed, chances, silence=silence, late_exits=late_exits)
    try:
        world.runs()
    except AssertionError as error:
        error.add_note(f"seed {seed}, {'calm' if chances else 'with faults'}, late exits: {late_exits}")
        raise
    return world


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_what_failed_once_holds(seed: int) -> None:
    play(seed)
    play(seed, Chances())


@pytest.mark.parametrize("seed", FAILED_IN_SILENCE)
def test_what_failed_once_in_silence_holds(seed: int) -> None:
    play(seed, silence=0.5)
    play(seed, Chances(), silence=0.5)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_sessions_hold(block: int) -> None:
    for number in range(SESSIONS // BLOCKS):
        seed = 1_000_000 + block * 1_000_000 + number
        is_calm, is_silent = number % 4 < 2, number % 2
        late_exits = LateExits.SKIP if number % 3 == 2 else LateExits.MARKET
        play(seed, Chances() if is_calm else None, 0.5 if is_silent else 0.0, late_exits)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_no_session_can_be_found_that_fails(random: Random) -> None:
    """The same sessions, drawn so that a failing one shrinks."""
    World(random, followers=1, acts=3).runs()


def test_every_kind_of_trouble_is_met() -> None:
    """What the sessions claim to play does happen."""
    met: set[str] = set()
    for seed in range(150):
        world = World(seed)
        world.runs()
        met |= {type(fact).__name__ for fact, _ in world.facts} | {str(reason) for reason in reasons(world)}
        met |= {"SWEEP" for fact, _ in world.facts if isinstance(fact, Place) and fact.sweep}
    wanted = {"Refused", "Throttled", "NotSent", "Unanswered", "NotFound", "Modify", "Cancel", "SWEEP"}
    wanted |= {"ABSENT", "INSUFFICIENT_MARGIN", "NOTHING_TO_EXIT", "BELOW_ONE_LOT", "DETACHED", "LEADER_DONE"}
    assert wanted <= met


# --- Replay and restart -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_same_events_give_the_same_decisions(seed: int) -> None:
    world = World(seed, replace(Chances.drawn(Random(seed)), restarted=0.0))
    world.runs()
    state, decided = State(), list[str]()
    for fact, _ in world.facts:
        if isinstance(fact, Event):
            state, decisions = step(state, fact)
            decided += map(repr, decisions)

    assert decided == [repr(fact) for fact, _ in world.facts if isinstance(fact, Decision)]


@pytest.mark.parametrize("seed", range(40))
def test_what_is_recalled_is_what_was_known(seed: int) -> None:
    """Everything that survives is changed by facts alone."""
    world = World(seed, replace(Chances.drawn(Random(seed)), restarted=0.0))
    world.runs()
    recalled = recall(world.facts)

    assert list(_told(recalled, world.now)) == list(_told(world.state, world.now))


_TRANSIENT = {"follows", "retry_at", "tries", "excess_since", "alerted", "ask_books", "wakes", "waking", "wakes_made"}
_BACK = {"leader", "copy"}


def _told(value: object, at: datetime, path: str = "state") -> Iterator[tuple[str, str]]:
    """All that a state holds, except what it forgets at a start, as lines that can be compared."""
    if isinstance(value, Budget):
        yield path, repr(value.left(at))
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            if each.name not in _TRANSIENT | _BACK:
                yield from _told(getattr(value, each.name), at, f"{path}.{each.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _told(item, at, f"{path}[{key}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _told(item, at, f"{path}[{number}]")
    else:
        yield path, repr(value)


@pytest.mark.parametrize("seed", range(60))
def test_a_restart_at_any_moment_harms_nothing(seed: int) -> None:
    chances = replace(Chances.drawn(Random(seed)), restarted=0.6)
    World(seed, chances).runs()
