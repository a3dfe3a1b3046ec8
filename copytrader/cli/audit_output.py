"""How the answers of `audit` are shown: lines, tables, JSON, CSV, one page.

What there is to show is found out elsewhere; nothing here decides what a fact means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from copytrader.audit.runs import Period
    from copytrader.audit.selection import Wanted
    from copytrader.audit.verify import Finding
    from copytrader.audit.words import Instruments
    from copytrader.journal import Journal, Row

_LAST = 50
_WIDE = 120
_LOOK_EVERY = 0.2


def documents(journal: Journal, wanted: Wanted, limit: int | None) -> Iterator[dict[str, Any]]:
    from copytrader.audit import selection, words

    known = words.Instruments(journal)
    for row in selection.find(journal, wanted, limit):
        yield selection.document(row, known)


def print_list(items: Iterable[dict[str, Any]]) -> None:
    """Print one JSON list, item by item: a year of facts need not fit into memory."""
    import json
    import sys

    write, before = sys.stdout.write, "[\n"
    for item in items:
        write(before + json.dumps(item))
        before = ",\n"
    write("[]\n" if before == "[\n" else "\n]\n")


def show_facts(journal: Journal, wanted: Wanted, limit: int | None, *, as_csv: bool) -> None:
    from copytrader import render
    from copytrader.audit import selection, words
    from copytrader.render import Column

    tell_archives(journal, wanted)
    known = words.Instruments(journal)
    most = limit or (None if as_csv else _LAST)
    rows = list(selection.find(journal, wanted, most))
    if as_csv:
        render.rows([_as_row(row, known) for row in rows], [Column(key) for key in _CSV], render.Format.CSV)
        return
    if not rows:
        render.notice("no fact fits")
        return
    one_day = rows[0].at[:10] == rows[-1].at[:10]
    items = [
        {
            "seq": row.seq,
            "at": row.at[11:23] if one_day else row.at[:19].replace("T", " "),
            "who": _who(row),
            "what": selection.summary(row, known),
        }
        for row in rows
    ]
    title = rows[0].at[:10] if one_day else "time"
    render.rows(items, [Column("seq"), Column("at", title), Column("who"), Column("what")])
    if len(rows) == most and rows[0].seq > 1:
        render.notice(f"older: --before {rows[0].seq}")


def tell_archives(journal: Journal, wanted: Wanted) -> None:
    """Say on stderr which archive has facts that a named time reaches and this journal has no more."""
    from copytrader import render
    from copytrader.audit.archives import elsewhere

    there = elsewhere(journal, wanted.since) if wanted.since is not None else ""
    if there:
        render.notice(there)


_CSV = ("seq", "cause", "at", "kind", "follower", "leader_order_id", "order_id", "correlation_id", "reason", "summary")


def _as_row(row: Row, known: Instruments) -> dict[str, object]:
    from copytrader.audit import selection

    said = selection.document(row, known)
    return {key: said[key] for key in _CSV}


def _who(row: Row) -> str:
    from copytrader.audit import words
    from copytrader.journal import JournalError

    try:
        return row.follower or words.who(row.fact)
    except JournalError:
        return ""


def show_tail(journal: Journal, wanted: Wanted, limit: int, *, as_json: bool) -> None:
    """Print the last facts and then each new one; every look is a short query of its own."""
    import json
    import sys
    import time

    from copytrader import render
    from copytrader.audit import selection, words
    from copytrader.cli.guard import heed_sigterm

    heed_sigterm()
    known, seen, last = words.Instruments(journal), wanted.after, limit
    try:
        while True:
            newest = journal.last_seq
            if newest > seen or last:
                known = words.Instruments(journal)
                for row in selection.find(journal, selection.newer(wanted, seen), last or None):
                    if as_json:
                        sys.stdout.write(json.dumps(selection.document(row, known)) + "\n")
                    else:
                        render.line(f"{row.at[11:23]} #{row.seq} {_who(row):<8} {selection.summary(row, known)}")
                    newest = max(newest, row.seq)
                render.flush()
                seen, last = max(seen, newest), 0
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        return


def show_report(journal: Journal, period: Period, follower: str) -> None:
    import sys

    from copytrader import render
    from copytrader.audit.report import report as reported
    from copytrader.audit.tables import tables

    for table in tables(reported(journal, period, follower), narrow=(render.width_of(sys.stdout) or _WIDE) < _WIDE):
        render.line(table.title)
        render.rows(table.rows, table.columns)
        if table.note:
            render.line(table.note)
        render.line("")


def show_findings(findings: list[Finding], count: int, young: int, moved: list[str]) -> None:
    from copytrader import render

    for text in moved:
        render.line(text)
    for finding in findings:
        where = "" if finding.seq is None else f" (fact {finding.seq})"
        render.line(f"{finding.check}: {finding.what}{where}")
    if findings:
        render.notice(f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'} in {count:,} facts")
    elif not young:
        render.line(f"{count:,} facts: unaltered, complete, nothing unknown")
    if young:
        found = "" if findings else f"{count:,} facts: unaltered; "
        render.line(f"{found}{young} too young to judge while the journal is written, ask again in half a minute")


def write_page(path: Path, text: str) -> None:
    """Write a page that its owner alone may read; an earlier page that stood there is replaced, nothing else is."""
    from copytrader.cli.pages import write_private
    from copytrader.failure import ExitCode, Failure

    if path.exists() and not _is_page(path):
        why = f"--html: {path} exists and is no earlier page; name another file for it"
        raise Failure(why, code=ExitCode.USAGE)
    write_private(path, text)


def _is_page(path: Path) -> bool:
    begins = b"<!doctype html>"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(begins)) == begins
