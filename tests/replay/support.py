"""Recorded days to replay: frames of the example, played on paper and written to a journal as `follow` would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from copytrader import __version__
from copytrader.core.facts import Decision, Event, Started
from copytrader.core.fold import recall
from copytrader.core.model import Desk, Follower
from copytrader.core.state import State
from copytrader.journal import Journal
from copytrader.paper import FillModel
from copytrader.replay import frames, rules
from copytrader.replay.play import AS_CONFIGURED, WHAT_IF, Track, play_events
from copytrader.replay.summary import Played
from copytrader.replay.what_if import WhatIf

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "recorded-day.jsonl"
LEADER_ID = "1000000001"
Row = Mapping[str, Any]


def desk(*added: str, **changes: str) -> Desk:
    """A desk with these followers, as `--add-follower` makes them."""
    return rules.changed(
        rules.bare(LEADER_ID), {key.replace("__", "."): value for key, value in changes.items()}, added
    )


def example(path: Path = EXAMPLE) -> list[Event]:
    return list(frames.events(frames.read(path), lambda _security: None))


def decided(
    events: Iterable[Event], rules_in_force: Desk, state: State | None = None, *, dry_run: bool = False
) -> list[tuple[Event, Sequence[Decision]]]:
    """What a copier would have recorded of these events, with its followers' orders on paper."""
    day = WhatIf(state or State(), rules_in_force, FillModel(latency=timedelta(milliseconds=5)))
    steps: list[tuple[Event, Sequence[Decision]]] = []
    for event in events:
        begun = replace(event, dry_run=dry_run, version=__version__) if isinstance(event, Started) else event
        steps += [(moment.event, moment.decisions) for moment in day.feed(begun)]
    return steps + [(moment.event, moment.decisions) for moment in day.end()]


def write(path: Path, steps: Iterable[tuple[Event, Sequence[Decision]]]) -> Path:
    with Journal.open(path) as journal:
        journal.record_many([(event, decisions, None) for event, decisions in steps])
    return path


def journal_of(path: Path, rules_in_force: Desk) -> Path:
    """The example's day as a journal."""
    return write(path, decided(example(), rules_in_force))


def state_of(path: Path) -> State:
    """The state that a start takes up from a journal."""
    with Journal.open(path, read_only=True) as journal:
        return recall((row.fact, row.time) for row in journal.facts())


def played(first: Desk, other: Desk | None = None, model: FillModel | None = None, path: Path = EXAMPLE) -> Row:
    """The document of the example played with one desk, or two."""
    tracks = [Track(AS_CONFIGURED, first, FillModel())]
    if other is not None:
        tracks.append(Track(WHAT_IF, other, model or FillModel()))
    for _ in play_events(example(path), tracks):
        pass
    return Played(str(path), tracks, []).document()


def account(document: Row, name: str, result: int = 0) -> Row:
    found: Row = next(row for row in document["results"][result]["accounts"] if row["account"] == name)
    return found


def outcomes(document: Row, name: str, result: str) -> list[tuple[int, int, Any]]:
    """Quantity, filled quantity and reason of each of an account's orders, in the leader's order."""
    found = [row[result] for row in document["orders"] if row["account"] == name]
    return [(each["quantity"], each["filled_quantity"], each["skipped"]) for each in found if each is not None]


def only(rules_in_force: Desk) -> Follower:
    (follower,) = rules_in_force.followers
    return follower
