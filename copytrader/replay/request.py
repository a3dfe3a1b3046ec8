"""What the user asks a replay for, turned into tracks and steps: which source, which days, which rules.

Where nothing is said, it is the configuration's journal and its newest day, as it was recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

from copytrader import calendar
from copytrader.config import Config, ConfigError, load
from copytrader.core.model import IST, Calendar, Desk, Instrument, Security
from copytrader.dhan.master import InstrumentStore
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal
from copytrader.paper import FillModel
from copytrader.replay import frames, rules, target
from copytrader.replay.play import AS_CONFIGURED, RECORDED, WHAT_IF, Step, Track, play_events, play_recording
from copytrader.replay.proof import Progress, Verdict, prove, warning
from copytrader.replay.recording import Recording, Window, record_of, with_funds
from copytrader.replay.summary import on_paper
from copytrader.replay.what_if import Before

COLLECT_AFTER = 100_000
"""Objects made until Python looks for garbage among them."""
_SQLITE = b"SQLite format 3\x00"
_CLOCK = re.compile(r"\d\d?:\d\d(:\d\d(\.\d+)?)?")
_NOBODY = "follower"


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one replay, as given; `until` is a time or an order."""

    source: Path | None = None
    config: Path | None = None
    day: str | None = None
    since: str | None = None
    until: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    added: Sequence[str] = ()
    model: FillModel | None = None

    @property
    def until_order(self) -> str | None:
        """The order at which to stop; None where `until` is a time."""
        return None if self.until is None or _is_time(self.until) else self.until


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay that is ready to be played: iterate over what `steps` returns, then look at the tracks."""

    source: str
    tracks: Sequence[Track]
    steps: Callable[[Before], Iterator[Step]]
    on_paper: bool
    first: int
    last: int
    notes: Sequence[str]
    warnings: Sequence[str] = ()
    passed_over: Sequence[frames.PassedOver] = ()
    prove: Callable[[Progress], Verdict] | None = None


@contextmanager
def opened(request: Request) -> Iterator[Replay]:
    """Open the source and make ready to play it."""
    rules.refuse_idle(request.changes)
    with ExitStack() as stack:
        if request.source is not None and not _is_journal(request.source):
            yield _of_frames(request, request.source, stack)
        else:
            yield _of_journal(request, stack)


def proved(request: Request, progress: Progress) -> Verdict:
    """Check a journal against the engine."""
    if request.source is not None and not _is_journal(request.source):
        raise Failure(f"{request.source} holds frames and no decisions: there is nothing to check", code=ExitCode.USAGE)
    with closing(_journal(request)) as journal:
        window, _ = _window(request, journal, whole=request.source is not None)
        verdict = prove(journal, window, progress)
        if verdict.identical and not verdict.events:
            raise _nothing(journal)
        return verdict


def refuse_report(request: Request, report: Path) -> None:
    """Refuse a file for the page in which something else would be lost."""
    needed = request.source is None or request.config is not None
    target.refuse_unsafe(report, request.source, load(request.config) if needed else _usual_config())


def _usual_config() -> Config | None:
    """Read the configuration in force, None where there is none or it cannot be read: the replay needs none."""
    try:
        return load()
    except ConfigError:
        return None


def _is_journal(path: Path) -> bool:
    if not path.exists():
        raise Failure(f"{path}: no such file; a replay reads a journal or a .jsonl of frames", code=ExitCode.USAGE)
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _journal(request: Request) -> Journal:
    path = request.source if request.source is not None else load(request.config).journal
    return Journal.open(path, read_only=True)


# --- Which days --------------------------------------------------------------------------


def _window(request: Request, journal: Journal, *, whole: bool) -> tuple[Window, list[str]]:
    """Return what is meant, and what the user should know about it."""
    notes = []
    until = request.until if request.until_order is None else None
    day = _day(request.day) if request.day else None
    if day is None and whole and request.since is None and until is None:
        return Window(), []
    dated = _dated(request.since, "--since") or _dated(until, "--until")
    if day is None and dated is None:
        day = journal.last_day()
        if day is None:
            raise _nothing(journal)
        if request.source is None and day != datetime.now(IST).date():
            notes.append(f"nothing has happened today: this is {day}")
    begin = None if day is None else datetime.combine(day, time(), IST)
    end = None if begin is None else begin + timedelta(days=1)
    since = begin if request.since is None else _moment(request.since, day or dated, "--since")
    last = end if until is None else _moment(until, day or dated, "--until", ends=True)
    _refuse_contradiction(request, until, (begin, end), Window(since, last))
    return Window(since, last), notes


def _refuse_contradiction(
    request: Request, until: str | None, day: tuple[datetime | None, datetime | None], window: Window
) -> None:
    """Refuse a window that ends before it starts, or lies in another day than the one asked for."""
    begin, end = day
    given = " ".join(f"{option} {text}" for option, text in (("--since", request.since), ("--until", until)) if text)
    if request.day and begin is not None and end is not None:
        within = window.since is None or begin <= window.since < end
        if not within or not (window.until is None or begin < window.until <= end):
            what = f"--date {begin:%Y-%m-%d} and {given} mean different days: leave one out"
            raise Failure(what, code=ExitCode.USAGE)
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise Failure(f"{given} leaves no time: the end must come after the start", code=ExitCode.USAGE)


def _dated(text: str | None, option: str) -> date | None:
    """Return the day that a time names, None for a time of day alone."""
    return None if text is None or _CLOCK.fullmatch(text) else _moment(text, None, option).date()


def _nothing(journal: Journal) -> Failure:
    """Say that nothing is there to be played, and what there is."""
    found = journal.query("SELECT min(at), max(at) FROM facts")[1][0]
    if found[0] is None:
        return Failure(f"{journal.path}: nothing is recorded yet; `copytrader follow` does that", code=ExitCode.USAGE)
    first, last = (datetime.fromisoformat(at) for at in found)
    holds = f"it holds {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    return Failure(f"{journal.path}: nothing is recorded in the time asked for; {holds}", code=ExitCode.USAGE)


def _is_time(text: str) -> bool:
    return _CLOCK.fullmatch(text) is not None or re.match(r"\d{4}-\d\d-\d\d", text) is not None


def _day(text: str) -> date:
    try:
        return datetime.now(IST).date() if text == "today" else date.fromisoformat(text)
    except ValueError:
        raise Failure(f"--date must be a day such as 2026-11-23, was {text}", code=ExitCode.USAGE) from None


def _moment(text: str, day: date | None, option: str, *, ends: bool = False) -> datetime:
    """Read a time of day, a day, or both; a day alone ends with its last moment."""
    try:
        if _CLOCK.fullmatch(text):
            assert day is not None
            return datetime.combine(day, time.fromisoformat(text.rjust(5, "0")), IST)
        found = datetime.fromisoformat(text)
    except ValueError:
        what = f"{option} must be a time such as 10:15 or 2026-11-23T10:15, was {text}"
        raise Failure(what, code=ExitCode.USAGE) from None
    found = found.replace(tzinfo=IST) if found.tzinfo is None else found
    return found + timedelta(days=1) if ends and len(text) == len("2026-11-23") else found


# --- A journal ---------------------------------------------------------------------------


def _of_journal(request: Request, stack: ExitStack) -> Replay:
    journal = stack.enter_context(closing(_journal(request)))
    window, notes = _window(request, journal, whole=False)
    recording = record_of(journal, window)
    recording, more = _of_one_kind(recording)
    started = recording.started
    if started is None:
        raise _nothing(journal)
    recorded = Track(RECORDED, started.desk, None)
    other = _asked(request, started.desk, notes)
    notes += more
    if other is not None:
        rules.refuse_unknown_capital(other.desk, with_funds(recording), str(journal.path))
        assert other.model is not None
        notes.append(f"what if: {on_paper(other.model)}")
    return Replay(
        source=str(journal.path),
        tracks=(recorded,) if other is None else (recorded, other),
        steps=lambda before: play_recording(recording, recorded, other, before, request.until_order),
        on_paper=other is not None or started.dry_run,
        first=recording.runs[0].first,
        last=recording.runs[-1].last,
        notes=notes,
        warnings=[] if other is None and request.until_order is None else _altered(journal),
        prove=None if other is not None else lambda progress: prove(journal, window, progress),
    )


def _altered(journal: Journal) -> list[str]:
    """Warn where nothing is proved of what is played."""
    found = warning(journal)
    return [] if found is None else [f"{journal.path}: {found}; this is what it holds now, not what was recorded"]


def _of_one_kind(recording: Recording) -> tuple[Recording, list[str]]:
    """Leave dry runs out, unless there is nothing else."""
    live, dry = recording.only(dry=False), recording.only(dry=True)
    if live.runs:
        count = len(dry.runs)
        return live, [f"{count} dry run{'s are' if count > 1 else ' is'} left out"] if count else []
    return dry, ["this was a dry run: its orders were on paper"] if dry.runs else []


def _asked(request: Request, recorded: Desk, notes: list[str]) -> Track | None:
    """Return the track with other rules, None where nothing else is asked for."""
    if request.config is not None:
        desk = _configured(request, request.config, recorded)
    elif request.changes or request.added:
        desk = rules.changed(recorded, request.changes, request.added)
    else:
        desk = recorded
    if desk == recorded and request.model is None:
        if request.config is not None or request.changes:
            notes.append("the rules asked for are those that were in force: there is nothing to compare")
        return None
    return Track(WHAT_IF, desk, request.model or FillModel())


def _configured(request: Request, path: Path, recorded: Desk) -> Desk:
    """Return the desk of another configuration, changed as asked; keys of added followers are of no file."""
    added = {text.partition(":")[0] for text in request.added}
    of_added = {
        key: value for key, value in request.changes.items() if key.split(".")[1:2] and key.split(".")[1] in added
    }
    of_file = {key: value for key, value in request.changes.items() if key not in of_added}
    rules.refuse_strangers(of_file, load(path).followers)
    base = _with_hours(load(path, changes=of_file), recorded.calendar)
    base = replace(base, leader_client_id=recorded.leader_client_id)
    return rules.changed(base, of_added, request.added) if request.added else base


def _with_hours(config: Config, recorded: Calendar) -> Desk:
    """Return a configuration's desk with the trading hours of the day that is played."""
    if config.copy_rules.market_hours == "off":
        return config.desk(recorded)
    if config.calendar is None and recorded.sessions:
        return config.desk(recorded)
    year = datetime.now(IST).year
    return config.desk(calendar.build(config.calendar, recorded.years or (year, year + 1)))


# --- Frames --------------------------------------------------------------------------------


def _of_frames(request: Request, path: Path, stack: ExitStack) -> Replay:
    if request.day or request.since or (request.until and request.until_order is None):
        raise Failure(f"{path} holds frames: they are played whole, leave --date and times out", code=ExitCode.USAGE)
    recorded = frames.read(path)
    passed_over = recorded.passed_over()
    config = _config(request)
    notes = ["positions begin flat: frames do not tell what was held before", on_paper(FillModel())]
    desk = _desk_for(request, config, recorded, notes)
    tracks = [Track(AS_CONFIGURED, desk, FillModel())]
    added = request.added if config is not None else ()
    if request.changes or added or request.model is not None:
        model = request.model or FillModel()
        tracks.append(Track(WHAT_IF, rules.changed(desk, request.changes, added), model))
        if model != FillModel():
            notes.append(f"what if: {on_paper(model)}")
    rules.refuse_unknown_capital(tracks[-1].desk, frozenset(), str(path))
    if rules.unknown_capital(desk, frozenset(), str(path)):
        del tracks[0]  # other rules can be played, those of the configuration cannot
        notes.append("not played as configured: a size there depends on a capital that frames do not tell")
    events = list(frames.events(recorded, _instruments(config, stack)))
    return Replay(
        source=str(path),
        tracks=tracks,
        steps=lambda before: play_events(events, tracks, before),
        on_paper=True,
        first=1,
        last=len(events),
        notes=notes,
        warnings=[frames.told(passed_over, len(recorded.lines))] if passed_over else [],
        passed_over=passed_over,
    )


def _config(request: Request) -> Config | None:
    """Read the configuration if there is one: frames can be played without."""
    if request.config is not None or os.environ.get("COPYTRADER_CONFIG"):
        return load(request.config)
    try:
        return load()
    except ConfigError as error:
        if str(error).startswith("no configuration"):
            return None
        raise


def _desk_for(request: Request, config: Config | None, recorded: frames.Frames, notes: list[str]) -> Desk:
    leader = recorded.leader_client_id
    if config is None:
        added = request.added or (_NOBODY,)
        if not request.added:
            notes.append(f"no configuration: one follower, called {_NOBODY}, at ratio 1 without limits")
        return rules.changed(rules.bare(leader), {}, added)
    years = sorted({at.year for _, at in recorded.timed()})
    hours = Calendar() if config.copy_rules.market_hours == "off" else calendar.build(config.calendar, years)
    desk = config.desk(hours)
    if desk.leader_client_id != leader:
        notes.append(f"the frames are of client {leader}, not of the configured leader {desk.leader_client_id}")
    return replace(desk, leader_client_id=leader)


def _instruments(config: Config | None, stack: ExitStack) -> Callable[[Security], Instrument | None]:
    if config is None or not config.instruments_path.exists():
        return lambda _security: None
    return stack.enter_context(closing(InstrumentStore(config.instruments_path))).get
