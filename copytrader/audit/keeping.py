"""Keeping a journal for years: whole days out as files, old days into an archive."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, TextIO

from copytrader.audit import selection, verify, words
from copytrader.audit.page import page
from copytrader.audit.report import report
from copytrader.audit.runs import Period
from copytrader.core.fold import recall
from copytrader.core.model import IST
from copytrader.core.state import State
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, JournalError, Row, files
from copytrader.journal.pruning import keep_only
from copytrader.journal.pruning import prune as take_out
from copytrader.journal.rows import day_bounds
from copytrader.render import csv_row

_log = logging.getLogger(__name__)

EXPORTED = ("orders", "copies", "skips", "fills", "latency", "slippage", "alerts")
DAYS_THAT_STAY = 2
"""Yesterday's orders may still stand in the broker's book: what is known of them stays."""


def export(journal: Journal, target: Path, period: Period, made: datetime) -> list[Path]:
    """Write a period as files that anything reads: the facts, each view as CSV, the page; nothing is overwritten.

    When one cannot be written whole, none stays.
    """
    _make_empty(target)
    try:
        return list(_files(journal, target, period, made))
    except BaseException:
        for file in target.iterdir():
            file.unlink()
        raise


def _files(journal: Journal, target: Path, period: Period, made: datetime) -> Iterator[Path]:
    known = words.Instruments(journal)
    wanted = selection.Wanted(since=period.since, until=period.until)
    yield _write(target / "facts.jsonl", _as_json(selection.find(journal, wanted), known))
    for view in EXPORTED:
        names, rows = _view(journal, view, period)
        yield _write_csv(target / f"{view}.csv", names, rows)
    last = (period.until - timedelta(microseconds=1)).date()
    digest = journal.digest(last)
    text = page(report(journal, period), str(journal.path), made, digest)
    yield _write(target / "report.html", [text])


def _make_empty(target: Path) -> None:
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        full = any(target.iterdir())
    except OSError as error:
        raise Failure(f"{target} cannot be used: {error.strerror}; name another directory") from error
    if full:
        raise Failure(f"{target} is not empty; nothing is overwritten, name another directory")


def _as_json(rows: Iterable[Row], known: words.Instruments) -> Iterator[str]:
    for row in rows:
        yield json.dumps(selection.document(row, known), separators=(",", ":")) + "\n"


def _view(journal: Journal, view: str, period: Period) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    last = period.until - timedelta(microseconds=1)
    sql = f"SELECT * FROM {view} WHERE day BETWEEN ? AND ? ORDER BY seq"  # noqa: S608  # own names
    return journal.query(sql, [f"{period.since:%Y-%m-%d}", f"{last:%Y-%m-%d}"])


@contextmanager
def _new(path: Path) -> Iterator[TextIO]:
    """Open a private file that must not be there yet."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
    except OSError as error:
        remedy = "nothing of the export stays; make room, or name another directory"
        raise Failure(f"{path} cannot be written: {error.strerror}; {remedy}") from error


def _write(path: Path, parts: Iterable[str]) -> Path:
    with _new(path) as file:
        file.writelines(parts)
    return path


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with _new(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(csv_row(row) for row in rows)
    return path


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went: facts 1 to `through`, whole days up to `last_day`, into `archive`; `digest` is the last one's hash."""

    through: int
    last_day: str
    archive: Path
    digest: str


def prune(
    path: Path, before: date, archive: Path | None, now: datetime, say: Callable[[str], None] | None = None
) -> Pruned | None:
    """Move every whole day before a date into an archive; None where there is none that may go.

    The caller holds the journal's lock.  Refuses when the journal does not verify, or when
    what stays needs what would go: a copy that is open or held, a halt, a carry.  `say` hears of
    what earlier prunes have left that were killed; an archive that one of them finished is gone on with.
    """
    latest = now.astimezone(IST).date() - timedelta(days=DAYS_THAT_STAY - 1)
    if before > latest:
        raise Failure(f"the last {DAYS_THAT_STAY} days stay: name a date up to {latest}", code=ExitCode.USAGE)
    with Journal.open(path, read_only=True) as journal:
        findings = [*verify.chain(journal), *verify.completeness(journal, now)]
        if findings:
            lines = [f"{finding.check}: {finding.what}" for finding in findings]
            raise Failure(*lines, "only verified days are moved; nothing was", code=ExitCode.FINDINGS)
        through = _through(journal, before)
        last = None if through is None else journal.row(through)
        home = None if last is None else _home(path, last, archive)
        for text in _left_behind(journal, path, home):
            (say or _log.warning)(text)
        if last is None or home is None:
            return None
        _require_independence(journal, last.seq)
        if _is_made(journal, home, last.seq):
            files.clear_remnants(home)
        else:
            journal.backup(home, partial(keep_only, through=last.seq))
    take_out(path, last.seq, home, now)
    return Pruned(last.seq, last.at[:10], home, last.hash)


def _home(path: Path, last: Row, archive: Path | None) -> Path:
    return (archive or path.with_name(f"{path.stem}.until-{last.at[:10]}.db")).resolve()


def _is_made(journal: Journal, home: Path, through: int) -> bool:
    """Whether the archive is there, whole: a prune that ended then had not taken anything out yet."""
    seqs = _still_here(journal, home)
    if seqs is None:
        return False
    if seqs == (_first(journal), through):
        return True
    raise Failure(
        f"{home} exists already; the journal still has every fact of it: delete it, or name another with --archive"
    )


def _still_here(journal: Journal, file: Path) -> tuple[int, int] | None:
    """Return the first and the last seq of a journal of which this one has every fact; None for any other file."""
    if not file.is_file():
        return None
    try:
        with Journal.open(file, read_only=True) as other:
            last = other.row(other.last_seq)
            same = None if last is None else journal.row(last.seq)
            if last is None or same is None or same.hash != last.hash or other.verify():
                return None
            first = _first(other)
            return (first, last.seq) if first >= _first(journal) else None
    except JournalError:
        return None


def _first(journal: Journal) -> int:
    return int(journal.query("SELECT coalesce(min(seq), 0) FROM facts")[1][0][0])


def _left_behind(journal: Journal, path: Path, home: Path | None) -> Iterator[str]:
    """Name what prunes that were killed have left and nobody needs, but for what this one takes up."""
    yield from unfinished((home or path).parent, "" if home is None else home.name)
    for file in sorted(path.parent.resolve().glob(f"{escape(path.stem)}.until-*.db")):
        if file != home and _still_here(journal, file) is not None:
            yield f"{file} is of a prune that was killed: the journal still has every fact of it, delete it"


def unfinished(folder: Path, name: str) -> Iterator[str]:
    """Name what copies that were killed have left in a folder, but for one that is about to be made under this name."""
    for file, meant in files.remnants(folder):
        if meant != name:
            yield f"{file} is what a copy that was killed has left: nothing is in it alone, delete it"


def _through(journal: Journal, before: date) -> int | None:
    """Return the last fact before the newest day on which a run of follow began the day, and all before is older."""
    sql = """
        SELECT max(began.seq) FROM facts AS began
        JOIN facts AS last ON last.seq = began.seq - 1
        WHERE began.kind = 'Started' AND substr(last.at, 1, 10) < substr(began.at, 1, 10) AND last.at < ?
    """
    found = journal.query(sql, [day_bounds(before)[0]])[1][0][0]
    return None if found is None else int(found) - 1


def _require_independence(journal: Journal, through: int) -> None:
    """Refuse to take out what the rest builds upon: it must come to the same state with and without."""
    crossing = journal.query("SELECT min(seq) FROM facts WHERE seq > ? AND cause <= ?", [through, through])[1][0][0]
    if crossing is not None:
        raise Failure(
            f"fact {crossing} answers an older one: these days cannot be moved yet; name an earlier date",
            code=ExitCode.SAFETY,
        )
    whole = _standing(recall(journal.happened()))
    rest = _standing(recall(journal.happened(through)))
    needed = sorted(set(whole.items()) ^ set(rest.items()))
    if needed:
        what = ", ".join(dict.fromkeys(key for key, _ in needed))
        raise Failure(f"what stays builds on what would go ({what}); name an earlier date", code=ExitCode.SAFETY)


def _standing(state: State) -> Mapping[str, str]:
    """Return what a state holds for the future, apart from what every start reads anew."""
    found: dict[str, str] = {}
    for name, account in state.accounts.items():
        if account.halted or account.blocked is not None:
            found[f"{name} is stopped"] = f"{account.halted} {account.blocked}"
        for correlation_id in account.open:
            found[f"{name}'s order {correlation_id} is open"] = "open"
    for key, holding in state.holdings.items():
        for name, share in holding.shares.items():
            if share.copied or share.carry or share.flatten:
                where = f"{key.security.exchange_segment} {key.security.security_id} {key.product}"
                found[f"{name} holds or carries {where}"] = f"{share.copied} {share.carry} {share.flatten}"
    for order_id, order in state.orders.items():
        if not order.known.is_done:
            found[f"the leader's order {order_id} is open"] = "open"
    return found
