"""Plays a recording, and beside it, step by step, what the same day would have been.

Each track has a name, the rules and the fill model it is played with (none for what was
recorded), and a tally.  Whoever wants to watch iterates over the moments; the
tallies are complete when the iteration ends.  States change in place, so who shows that of the
last track while it waits for the next event is told of it `before`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from copytrader.core.facts import Event
from copytrader.core.model import Desk
from copytrader.core.state import State
from copytrader.paper import FillModel
from copytrader.replay.recording import Recording, beats, facts, fold
from copytrader.replay.results import Tally
from copytrader.replay.what_if import Before, Moment, WhatIf, at_once

RECORDED, AS_CONFIGURED, WHAT_IF = "recorded", "as_configured", "what_if"


@dataclass(slots=True)
class Track:
    """One way in which the day goes."""

    name: str
    desk: Desk
    model: FillModel | None
    tally: Tally = field(default_factory=lambda: Tally(State()))


@dataclass(frozen=True, slots=True)
class Step:
    """A moment on one of the tracks; `seq` is the recorded fact that led to it, 0 where there is none."""

    track: Track
    moment: Moment
    seq: int


def play_recording(
    recording: Recording, recorded: Track, other: Track | None, before: Before = at_once, until: str | None = None
) -> Iterator[Step]:
    """Play what was recorded, and with `other` the same day by its rules, as far as an order first occurs."""
    base = recording.begin()
    recorded.tally = Tally(base)
    what_if = None
    if other is not None:
        other.tally = Tally(base)
        assert other.model is not None
        what_if = WhatIf(deepcopy(base), other.desk, other.model, before)
    state = base
    for run in recording.runs:
        if run.is_dry:
            state = deepcopy(base)
            if what_if is not None:
                what_if.state = deepcopy(base)
        for beat in beats(facts(recording.journal, run)):
            if what_if is None:
                before(beat.event.at)
            decisions = beat.decisions()
            fold(state, beat.event, decisions)
            seq = beat.row.seq + len(decisions)
            moment = Moment(beat.event, decisions, state)
            yield _step(recorded, moment, seq)
            if what_if is not None and other is not None:
                yield from (_step(other, each, seq) for each in what_if.feed(beat.event, state))
            if until is not None and mentions(moment, until):
                return
    if what_if is not None and other is not None:
        yield from (_step(other, moment, 0) for moment in what_if.end())


def play_events(events: Iterable[Event], tracks: Sequence[Track], before: Before = at_once) -> Iterator[Step]:
    """Play events that nobody decided upon yet, on each track with its own rules."""
    days = []
    for track in tracks:
        assert track.model is not None
        days.append((track, WhatIf(State(), track.desk, track.model, before if track is tracks[-1] else at_once)))
    for number, event in enumerate(events, 1):
        for track, what_if in days:
            yield from (_step(track, moment, number) for moment in what_if.feed(event))
    for track, what_if in days:
        yield from (_step(track, moment, 0) for moment in what_if.end())


def _step(track: Track, moment: Moment, seq: int) -> Step:
    track.tally.take(*moment)
    return Step(track, moment, seq)


def mentions(moment: Moment, name: str) -> bool:
    """Tell whether a moment is about an order, by the leader's id, a copy's id or its correlation id."""
    return any(_mentions(fact, name) for fact in (moment.event, *moment.decisions))


def _mentions(fact: object, name: str) -> bool:
    order = getattr(fact, "order", None)
    if order is not None and name in (order.order_id, order.correlation_id):
        return True
    if any(name == getattr(fact, key, None) for key in ("leader_order_id", "order_id", "correlation_id")):
        return True
    return any(_mentions_row(row, name) for row in getattr(fact, "orders", ()))


def _mentions_row(row: object, name: str) -> bool:
    return name in (getattr(row, "order_id", None), getattr(row, "correlation_id", None))
