"""The facts of a journal as they were: run by run, event by event with what was decided upon it.

A *run* is what one process recorded, from its start to the next one's.  A process begins with
what earlier runs left, dry ones apart, so that is how a replay of it must begin too.
Facts are read a page at a time: a journal of any size takes the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, cast

from copytrader.core.engine import recall
from copytrader.core.facts import Decision, Event, Started
from copytrader.core.fold import evolve
from copytrader.core.state import State
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, Row
from copytrader.journal.codec import EVENT_KINDS
from copytrader.journal.rows import COLUMNS, timestamp

_PAGE = 1000
_FACTS = COLUMNS + "FROM facts WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_BOUNDS = "SELECT min(seq), max(seq) FROM facts WHERE at >= ? AND at < ?"
_MARKS = "SELECT seq, kind FROM facts WHERE kind IN ('Started', 'Stopped') ORDER BY seq"
_FUNDS = """
SELECT DISTINCT json_extract(body, '$.account') FROM facts
WHERE seq >= ? AND seq <= ? AND kind = 'BookRead' AND json_extract(body, '$.funds') IS NOT NULL
"""
_EARLIEST, _LATEST = "0", "9"


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for: facts from a moment on, and before another; None is without limit."""

    since: datetime | None = None
    until: datetime | None = None

    def bounds(self) -> tuple[str, str]:
        since = _EARLIEST if self.since is None else timestamp(self.since)
        return since, _LATEST if self.until is None else timestamp(self.until)


@dataclass(frozen=True, slots=True)
class Run:
    """What one process recorded: its first and last fact, as far as they are asked for."""

    first: int
    last: int
    started: Started | None

    @property
    def is_dry(self) -> bool:
        return self.started is not None and self.started.dry_run


class Beat(NamedTuple):
    """One event and the decisions that follow it, as they stand in the journal."""

    row: Row
    event: Event
    decided: list[Row]

    def decisions(self) -> tuple[Decision, ...]:
        return tuple(cast(Decision, row.fact) for row in self.decided)


@dataclass(frozen=True, slots=True)
class Recording:
    """The runs of a journal that are asked for, whole from their start, and those before them."""

    journal: Journal
    before: tuple[Run, ...]
    runs: tuple[Run, ...]

    @property
    def size(self) -> int:
        """How many facts there are to read."""
        return sum(run.last - run.first + 1 for run in (*self.before, *self.runs))

    @property
    def started(self) -> Started | None:
        """The newest start: the rules in force last."""
        starts = [run.started for run in self.runs if run.started is not None]
        return starts[-1] if starts else None

    def only(self, *, dry: bool) -> Recording:
        """Leave out the dry runs, or all others; what came before stays."""
        return replace(self, runs=tuple(run for run in self.runs if run.is_dry is dry))

    def begin(self) -> State:
        """Return the state with which the first run began."""
        return recall((row.fact, row.time) for run in self.before if not run.is_dry for row in facts(self.journal, run))


def record_of(journal: Journal, window: Window) -> Recording:
    """Find the runs that have facts in a window."""
    first, last = journal.query(_BOUNDS, window.bounds())[1][0]
    runs = list(_runs(journal))
    if first is None:
        return Recording(journal, tuple(runs), ())
    before = tuple(run for run in runs if run.last < first)
    within = tuple(replace(run, last=min(run.last, last)) for run in runs if first <= run.last and run.first <= last)
    return Recording(journal, before, within)


def with_funds(recording: Recording) -> frozenset[str]:
    """Return the accounts whose capital the recording tells."""
    bounds = (recording.runs[0].first, recording.runs[-1].last)
    return frozenset(name for (name,) in recording.journal.query(_FUNDS, bounds)[1])


def facts(journal: Journal, run: Run) -> Iterator[Row]:
    """Yield the facts of a run in order."""
    seq = run.first - 1
    while seq < run.last:
        page = [Row._make(row) for row in journal.query(_FACTS, (seq, run.last, _PAGE))[1]]
        if not page:
            return
        yield from page
        seq = page[-1].seq


def beats(rows: Iterable[Row]) -> Iterator[Beat]:
    """Put each event together with what was decided upon it."""
    beat: Beat | None = None
    for row in rows:
        if row.kind in EVENT_KINDS:
            if beat is not None:
                yield beat
            beat = Beat(row, cast(Event, row.fact), [])
        elif beat is None:
            raise Failure(f"fact {row.seq} is a decision without an event before it", code=ExitCode.FINDINGS)
        else:
            beat.decided.append(row)
    if beat is not None:
        yield beat


def fold(state: State, event: Event, decisions: Iterable[Decision]) -> None:
    """Advance a state by what was recorded, deciding nothing."""
    for fact in (event, *decisions):
        evolve(state, fact, event.at)


def _runs(journal: Journal) -> Iterator[Run]:
    """Yield all runs of a journal.

    What a process records before its `Started` (a token that was refused) comes after the `Stopped` of the one before.
    """
    first, started = 1, None
    stopped: int | None = None
    for seq, kind in journal.query(_MARKS)[1]:
        if kind == "Stopped":
            stopped = seq
            continue
        begins = stopped + 1 if stopped is not None else seq
        if started is not None:
            yield Run(first, begins - 1, started)
            first = begins
        row = journal.row(seq)
        assert row is not None
        started, stopped = cast(Started, row.fact), None
    last = journal.last_seq
    if last >= first:
        yield Run(first, last, started)
