"""When `follow` ran within a period, for whom, and how long an order stream was lost meanwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from copytrader.core.model import LEADER
from copytrader.journal import Journal
from copytrader.journal.rows import timestamp
from copytrader.journal.views import DRY_RUNS, on_paper


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment up to, not including, another."""

    since: datetime
    until: datetime

    @property
    def title(self) -> str:
        first, last = self.since, self.until - timedelta(microseconds=1)
        if first.time() == datetime.min.time() and self.until.time() == datetime.min.time():
            return f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        return f"{first:%Y-%m-%d %H:%M:%S} to {self.until:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Connection:
    """How often an account's order stream was lost while `follow` ran, and for how long in all."""

    account: str
    disconnects: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """When a run began and ended within the period, which dry run it was (0: none), whether it copied, and for whom."""

    begin: datetime
    end: datetime
    paper: int
    copying: bool
    names: tuple[str, ...]


def runs_of(journal: Journal, period: Period) -> list[Run]:
    """Return the runs within the period; one that was killed ended with its last fact."""
    _, found = journal.query(
        "SELECT seq, at, seq * coalesce(json_extract(body, '$.dry_run'), 0), "
        "(SELECT group_concat(json_extract(value, '$.name')) FROM json_each(body, '$.desk.followers')), "
        "coalesce(json_extract(body, '$.copying'), 1) "
        "FROM facts WHERE kind = 'Started' AND at < ? AND at >= coalesce("
        "(SELECT max(at) FROM facts WHERE kind = 'Started' AND at < ?), '') ORDER BY seq",
        [timestamp(period.until), timestamp(period.since)],
    )
    runs = []
    for place, (_, at, paper, names, copying) in enumerate(found):
        following = found[place + 1][0] if place + 1 < len(found) else None
        end = _end(journal, following, period)
        begin = max(datetime.fromisoformat(at), period.since)
        if end >= begin:
            runs.append(Run(begin, min(end, period.until), paper, bool(copying), tuple((names or "").split(","))))
    return runs


def _end(journal: Journal, following: int | None, period: Period) -> datetime:
    """Return when the last fact before a run's successor, or before the period's end, was recorded."""
    if following is not None:
        row = journal.query("SELECT at FROM facts WHERE seq < ? ORDER BY seq DESC LIMIT 1", [following])
    else:
        until = timestamp(period.until)
        row = journal.query("SELECT at FROM facts WHERE at < ? ORDER BY at DESC LIMIT 1", [until])
    return datetime.fromisoformat(row[1][0][0])


def connections(journal: Journal, period: Period, runs: Sequence[Run], paper: int) -> Iterable[Connection]:
    _, found = journal.query(
        f"WITH {DRY_RUNS} SELECT at, kind, json_extract(body, '$.account') FROM facts "  # noqa: S608  # constants
        f"WHERE kind IN ('Connected', 'Disconnected') AND at >= ? AND at < ? AND {on_paper('facts')} = ? ORDER BY seq",
        [timestamp(period.since), timestamp(period.until), paper],
    )
    lost: dict[str, datetime] = {}
    times, seconds = Counter[str](), defaultdict[str, float](float)
    for at, kind, account in found:
        moment = datetime.fromisoformat(at)
        times[account] += kind == "Disconnected"
        if kind == "Disconnected":
            lost.setdefault(account, moment)
        elif account in lost:
            seconds[account] += _running(lost.pop(account), moment, runs)
    for account, since in lost.items():
        seconds[account] += _running(since, period.until, runs)
    for account in sorted(times, key=lambda name: (name != LEADER, name)):
        yield Connection(account, times[account], round(seconds[account], 3))


def _running(since: datetime, until: datetime, runs: Sequence[Run]) -> float:
    """Return how much of a span `follow` was running, in seconds."""
    shared = (min(run.end, until) - max(run.begin, since) for run in runs)
    return sum(max(each.total_seconds(), 0.0) for each in shared)
