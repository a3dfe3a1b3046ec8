"""Which facts: the filters of `audit` as one value, and the facts that fit it.

The places of the facts are looked up first, by the indexes; their bodies are then read in short pages,
so that a slow reader keeps no checkpoint of a running `follow` waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from copytrader.audit.words import Instruments, tell
from copytrader.core.facts import Level
from copytrader.core.model import SkipReason, label
from copytrader.journal import Journal, JournalError, Row
from copytrader.journal.rows import COLUMNS, timestamp
from copytrader.journal.views import names_an_order, security_of

_PAGE = 500
_RECENT = 20_000
_THESE = COLUMNS + "FROM facts WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"  # noqa: S608  # constants
FAILURES = (
    "Refused",
    "Throttled",
    "Unanswered",
    "NotSent",
    "NotFound",
    "TokenRefused",
    "FrameRefused",
    "Disconnected",
)
FAILED_SKIPS = (
    SkipReason.REFUSED,
    SkipReason.ABSENT,
    SkipReason.INSUFFICIENT_MARGIN,
    SkipReason.TOKEN,
    SkipReason.RATE_BUDGET,
    SkipReason.PRICE_BAND,
    SkipReason.BAD_TERMS,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the facts must fit, everything at once; `before` and `after` are places, for paging."""

    since: datetime | None = None
    until: datetime | None = None
    follower: str = ""
    symbol: str = ""
    order: str = ""
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    failed: bool = False
    before: int | None = None
    after: int = 0

    @property
    def picks(self) -> bool:
        """Whether single facts are asked for, not a period as a whole."""
        paged = self.before is not None or self.after > 0
        return paged or self.failed or bool(self.symbol or self.order or self.kinds or self.reasons)


def find(journal: Journal, wanted: Wanted, limit: int | None = None) -> Iterator[Row]:
    """Yield the facts that fit, oldest first; with a limit, only the last so many."""
    seqs = _seqs(journal, wanted, limit)
    for start in range(0, len(seqs), _PAGE):
        _, rows = journal.query(_THESE, [json.dumps(seqs[start : start + _PAGE])])
        yield from (Row._make(row) for row in rows)


def newer(wanted: Wanted, seq: int) -> Wanted:
    """Ask for the same, but only for what came after a fact."""
    return replace(wanted, after=max(seq, wanted.after))


def document(row: Row, known: Instruments) -> dict[str, Any]:
    """Return a fact as machines get it: its columns, null where one does not apply, then what else it says."""
    columns = row._asdict()
    text, digest = columns.pop("body"), columns.pop("hash")
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    said = {key: value for key, value in body.items() if key not in columns} if isinstance(body, dict) else {}
    return {**columns, **said, "summary": summary(row, known), "hash": digest}


def summary(row: Row, known: Instruments) -> str:
    """Say a fact in plain words, also one that this program cannot read."""
    try:
        return tell(row.fact, known)
    except JournalError as error:
        return str(error)


def _seqs(journal: Journal, wanted: Wanted, limit: int | None) -> Sequence[int]:
    """Return the places of the facts that fit: the last ones, or when paging on the first.

    What is asked for is mostly recent and common, so the newest facts are looked through first; what is rare
    is then found by an index.
    """
    clauses, parameters = _clauses(journal, wanted)
    bounded = wanted.since is not None or wanted.until is not None
    forward = wanted.after > 0 and wanted.before is None
    if limit is not None and not bounded and not forward:
        newest = journal.last_seq if wanted.before is None else wanted.before
        recent = f"NOT INDEXED WHERE seq > ? AND {clauses} ORDER BY seq DESC LIMIT ?"
        found = _places(journal, recent, [newest - _RECENT, *parameters, limit])
        if len(found) == limit:
            return found
    if wanted.symbol and not bounded and not (wanted.kinds or wanted.reasons or wanted.failed):
        clauses, parameters = _clauses(journal, wanted, by_order=True)
    if limit is None:
        return _places(journal, f"WHERE {clauses} ORDER BY seq", parameters)
    order = "ASC" if forward else "DESC"
    return _places(journal, f"WHERE {clauses} ORDER BY seq {order} LIMIT ?", [*parameters, limit])


def _places(journal: Journal, rest: str, parameters: Sequence[Any]) -> list[int]:
    _, found = journal.query(f"SELECT seq FROM facts {rest}", parameters)  # noqa: S608  # own clauses
    return sorted(seq for (seq,) in found)


def _clauses(journal: Journal, wanted: Wanted, *, by_order: bool = False) -> tuple[str, list[Any]]:
    clauses, parameters = ["1"], list[Any]()

    def add(clause: str, *values: Any) -> None:
        clauses.append(clause)
        parameters.extend(values)

    if wanted.after:
        add("seq > ?", wanted.after)
    if wanted.before is not None:
        add("seq < ?", wanted.before)
    if wanted.since is not None:
        add("at >= ?", timestamp(wanted.since))
    if wanted.until is not None:
        add("at < ?", timestamp(wanted.until))
    if wanted.follower:
        # Kinds and reasons are the better index: the plus keeps SQLite from taking the follower's.
        add("+follower = ?" if wanted.kinds or wanted.reasons else "follower = ?", wanted.follower)
    if wanted.order:
        add("(leader_order_id = ? OR order_id = ? OR correlation_id = ?)", *[wanted.order] * 3)
    if wanted.kinds:
        add(f"kind IN ({_marks(wanted.kinds)})", *wanted.kinds)
    if wanted.reasons:
        add(f"reason IN ({_marks(wanted.reasons)})", *wanted.reasons)
    if wanted.failed:
        add(_FAILED, *FAILURES, *FAILED_SKIPS)
    if wanted.symbol:
        securities = _securities(journal, wanted.symbol)
        if securities:
            add(_BY_ORDER if by_order else _OF_SECURITY, *[json.dumps(securities)] * 2)
        else:
            add("0")
    return " AND ".join(clauses), parameters


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


_GIVEN = "(SELECT value FROM json_each(?))"
# The leader's order that a fact is about stands in a frame, in a copy, or in the book that led to a skip.
_OF_SECURITY = f"""(
    EXISTS (
        SELECT 1 FROM facts AS named WHERE named.leader_order_id = facts.leader_order_id
        AND named.kind IN ('OrderSeen', 'Place') AND {security_of("named")} IN {_GIVEN}
    )
    OR EXISTS (
        SELECT 1 FROM facts AS book, json_each(book.body, '$.orders') AS row
        WHERE book.seq = facts.cause AND book.kind = 'BookRead'
        AND json_extract(row.value, '$.order_id') = facts.leader_order_id
        AND json_extract(row.value, '$.ticket.security') IN {_GIVEN}
    )
)"""  # noqa: S608  # constants
_BY_ORDER = f"""leader_order_id IN (
    SELECT named.leader_order_id FROM facts AS named
    WHERE {names_an_order("named")} AND {security_of("named")} IN {_GIVEN}
    UNION
    SELECT skip.leader_order_id FROM facts AS skip
    JOIN facts AS book ON book.seq = skip.cause, json_each(book.body, '$.orders') AS row
    WHERE skip.kind = 'Skip' AND book.kind = 'BookRead'
    AND json_extract(row.value, '$.order_id') = skip.leader_order_id
    AND json_extract(row.value, '$.ticket.security') IN {_GIVEN}
)"""  # noqa: S608  # constants
_FAILED = (
    f"(kind IN ({_marks(FAILURES)}) OR (kind = 'Skip' AND reason IN ({_marks(FAILED_SKIPS)}))"
    f""" OR (kind = 'Alert' AND instr(body, '"level":"{Level.CRITICAL}"') > 0))"""
)


def _securities(journal: Journal, text: str) -> list[str]:
    """Return the securities with this in their symbol, as Dhan or as a screen writes it, or in their underlying."""
    _, read = journal.query(
        f"SELECT DISTINCT {security_of('facts')}, json_extract(body, '$.instrument.symbol'), "  # noqa: S608  # constants
        "json_extract(body, '$.instrument.underlying'), json_extract(body, '$.instrument.expiry') "
        "FROM facts WHERE kind = 'InstrumentRead'"
    )
    wanted, found = text.casefold(), dict[str, None]()
    for security, symbol, underlying, expiry in read:
        dated = label(symbol, date.fromisoformat(expiry) if expiry else None)
        if any(wanted in name.casefold() for name in (symbol, dated, underlying or "")):
            found[security] = None
    return list(found)
