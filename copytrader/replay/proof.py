"""The proof: the recorded events through the engine again must give the recorded decisions, byte for byte.

First the journal itself is checked, since a fact that was altered proves nothing; then each run is
played from the state with which its process began.  A decision that an older program spelt
otherwise (a field fewer) counts as the same.  At the first difference it stops: what
follows would differ because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pydantic_core import from_json

from copytrader import __version__
from copytrader.core.engine import step
from copytrader.core.facts import Decision, Started
from copytrader.core.state import State
from copytrader.journal import Finding, Journal, JournalError, Row
from copytrader.journal.codec import CodecError, decode, encode
from copytrader.replay.recording import Beat, Recording, Run, Window, beats, facts, fold, record_of
from copytrader.replay.scene import Words, around

Progress = Callable[[int, int], None]
"""Told which fact was read, and which will be the last."""
_TRIGGERS = ("facts_are_final is missing", "facts_are_kept is missing")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the proof fails: the fact by its seq, what is wrong, and what stood around it.

    `recorded` and `decided` are the decision as it stands in the journal and as the engine takes it now.
    """

    seq: int | None
    what: str
    event_seq: int | None = None
    at: str | None = None
    event: str | None = None
    recorded: Words | None = None
    decided: Words | None = None
    fields: tuple[str, ...] = ()
    recorded_by: str | None = None
    replayed_by: str = __version__
    state: Words | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many events and decisions were compared, and the first difference if there is one."""

    events: int
    decisions: int
    first_difference: Difference | None = None

    @property
    def identical(self) -> bool:
        return self.first_difference is None

    def document(self) -> Words:
        return {
            "events": self.events,
            "decisions": self.decisions,
            "identical": self.identical,
            "first_difference": self.first_difference,
        }


def _nobody(_seq: int, _last: int) -> None:
    """Tell nobody."""


def prove(journal: Journal, window: Window, progress: Progress = _nobody) -> Verdict:
    """Check a journal, and play its runs again that have facts in a window."""
    findings = journal.verify()
    if findings:
        return Verdict(0, 0, _altered(journal, findings))
    proof = _Proof(record_of(journal, window), progress)
    try:
        proof.play()
    except JournalError as error:
        proof.difference = Difference(proof.seq + 1, str(error), recorded_by=proof.version)
    return Verdict(proof.events, proof.decisions, proof.difference)


def warning(journal: Journal) -> str | None:
    """Say in a line that a journal was altered, None where it was not."""
    findings = journal.verify()
    return _told(findings) if findings else None


def _altered(journal: Journal, findings: Sequence[Finding]) -> Difference:
    seq = next((each.seq for each in findings if each.seq is not None), None)
    row = journal.row(seq) if seq is not None else None
    return Difference(seq, _told(findings), at=row.at if row else None, event=row.kind if row else None)


def _told(findings: Sequence[Finding]) -> str:
    """Name the first fact that was altered, and before it what the whole file lacks."""
    of_file = [f"the trigger {each.what}" if each.what in _TRIGGERS else each.what for each in findings if not each.seq]
    rows = [each.what for each in findings if each.seq]
    more = [f"{len(rows) - 1:,} more are named by `copytrader audit verify`"] if len(rows) > 1 else []
    return f"the journal was altered: {'; '.join([*of_file, *rows[:1], *more])}"


class _Proof:
    """A walk through the runs, with what it has counted so far."""

    def __init__(self, recording: Recording, progress: Progress) -> None:
        self.events = self.decisions = self.seq = 0
        self.version = ""
        self.difference: Difference | None = None
        self._recording = recording
        self._progress = progress

    def play(self) -> None:
        base = self._recording.begin()
        runs = self._recording.runs
        for number, run in enumerate(runs):
            later = number + 1 < len(runs)
            self._play_run(
                run, deepcopy(base) if later or run.is_dry else base, None if run.is_dry or not later else base
            )
            if self.difference is not None:
                return

    def _play_run(self, run: Run, state: State, base: State | None) -> None:
        """Play one run on a state of its own; `base` takes in what was recorded, for the runs after it."""
        for beat in beats(facts(self._recording.journal, run)):
            if isinstance(beat.event, Started):
                self.version = beat.event.version
            state, decisions = step(state, beat.event)
            self.seq = beat.row.seq
            self.difference = self._compare(beat, decisions, state)
            if self.difference is not None:
                return
            self.events += 1
            self.decisions += len(decisions)
            self.seq += len(decisions)
            if base is not None:
                fold(base, beat.event, beat.decisions())
            self._progress(self.seq, self._recording.runs[-1].last)

    def _compare(self, beat: Beat, decisions: Sequence[Decision], state: State) -> Difference | None:
        for recorded, decided in zip_longest(beat.decided, decisions):
            if not _same(recorded, decided):
                return self._difference(beat, recorded, decided, state)
        return None

    def _difference(self, beat: Beat, recorded: Row | None, decided: Decision | None, state: State) -> Difference:
        was, now = _words(recorded), None if decided is None else _words_of(decided)
        return Difference(
            seq=recorded.seq if recorded is not None else beat.row.seq,
            what=_what(was, now) + self._whose_rule(),
            event_seq=beat.row.seq,
            at=beat.row.at,
            event=beat.row.kind,
            recorded=was,
            decided=now,
            fields=tuple(_fields(was, now)),
            recorded_by=self.version,
            state=_around(beat, recorded, decided, state),
        )

    def _whose_rule(self) -> str:
        if self.version in ("", __version__):
            return ""
        return f"; copytrader {self.version} recorded it, and {__version__} has another rule here"


def _same(recorded: Row | None, decided: Decision | None) -> bool:
    if recorded is None or decided is None or recorded.kind != type(decided).__name__:
        return False
    now = encode(decided)
    return now == recorded.body or now == _respelt(recorded)


def _respelt(row: Row) -> str | None:
    """Write an old decision as this program would: fields that it did not have yet get their defaults."""
    try:
        return encode(decode(row.kind, row.body))
    except CodecError:
        return None


def _words(row: Row | None) -> Words | None:
    return None if row is None else {"kind": row.kind, **from_json(row.body)}


def _words_of(decision: Decision) -> Words:
    return {"kind": type(decision).__name__, **from_json(encode(decision))}


def _what(was: Words | None, now: Words | None) -> str:
    if was is None:
        return f"the engine decides one thing more: {_named(now)}"
    if now is None:
        return f"the engine no longer decides: {_named(was)}"
    return f"recorded was {_named(was)}, the engine decides {_named(now)}"


def _named(words: Words | None) -> str:
    assert words is not None
    named = [words.get("account"), words.get("leader_order_id"), words.get("reason") or words.get("level")]
    return " ".join([str(words["kind"]), *(str(each) for each in named if each)])


def _fields(was: Words | None, now: Words | None) -> Iterator[str]:
    """Name what differs inside two decisions of one kind, with both values."""
    if was is None or now is None or was["kind"] != now["kind"]:
        return
    flat_was, flat_now = dict(_flat(was)), dict(_flat(now))
    for key in dict.fromkeys((*flat_was, *flat_now)):
        if flat_was.get(key) != flat_now.get(key):
            yield f"{key}: recorded {flat_was.get(key)}, decided {flat_now.get(key)}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _around(beat: Beat, recorded: Row | None, decided: Decision | None, state: State) -> Words:
    leader_order_id = recorded.leader_order_id if recorded is not None else getattr(decided, "leader_order_id", None)
    account = recorded.follower if recorded is not None else getattr(decided, "account", None)
    return around(state, leader_order_id or beat.row.leader_order_id, account)
