"""The chain that ties each fact to all facts before it, and what a broken link tells.

The hash of a row is SHA-256 over the hash of the row before, all its other columns as one JSON
array, and its body.  Whoever keeps the hash of one row elsewhere can prove later that no
fact up to it was changed, taken out or moved.  Nothing here touches a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

GENESIS = ""
"""What stands where the first fact's predecessor would."""

Columns = tuple[int, int | None, str, str, str | None, str | None, str | None, str | None, str | None]
"""seq, cause, at, kind, follower, leader_order_id, order_id, correlation_id, reason."""
Link = tuple[Columns, str, str]
"""One row: its columns, its body, its hash."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was recorded; `seq` is None where no single fact is meant."""

    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class _Broken:
    """A row whose hash does not follow, and the hashes that may have stood before it."""

    previous: str
    link: Link

    @property
    def seq(self) -> int:
        return self.link[0][0]


def chain_hash(previous: str, columns: Columns, body: str) -> str:
    """Return the hash of a row that follows the row with the hash `previous`."""
    return hashlib.sha256(f"{previous}[{','.join(map(_json, columns))}]{body}".encode()).hexdigest()


def _json(value: str | int | None) -> str:
    """Return what `json.dumps` does; for a row of these it takes longer than the hashing."""
    if value is None:
        return "null"
    return encode_basestring_ascii(value) if isinstance(value, str) else str(value)


def check(links: Iterable[Link], previous: str = GENESIS, since: int = 0) -> Iterator[Finding]:
    """Walk rows in order, the first of which should be the one after `since`, and name what does not fit."""
    broken: list[_Broken] = []
    computed, expected = previous, since + 1
    for columns, body, stored in links:
        seq = columns[0]
        if seq != expected:
            yield Finding(seq, f"{_span(expected, seq - 1)} missing, so that fact {seq} cannot be checked")
            computed = stored
        elif _fits((columns, body, stored), previous, computed):
            computed = stored
        else:
            broken.append(_Broken(previous, (columns, body, stored)))
            computed = chain_hash(previous, columns, body)
        previous, expected = stored, seq + 1
    yield from _explain(broken)


def _fits(link: Link, previous: str, computed: str) -> bool:
    """Tell whether a row follows the hash stored before it, or the one that should be stored there."""
    columns, body, stored = link
    if chain_hash(previous, columns, body) == stored:
        return True
    return computed != previous and chain_hash(computed, columns, body) == stored


def _span(first: int, last: int) -> str:
    return f"fact {first} is" if first == last else f"facts {first} to {last} are"


def _explain(broken: list[_Broken]) -> Iterator[Finding]:
    """Say of each broken row whether it was changed or has changed places with another."""
    explained: set[int] = set()
    for place, row in enumerate(broken):
        if row.seq in explained:
            continue
        twin = next((other for other in broken[place + 1 :] if _swapped(row, other)), None)
        if twin is None:
            yield Finding(row.seq, f"fact {row.seq} or its hash was changed")
        else:
            yield Finding(row.seq, f"facts {row.seq} and {twin.seq} have changed places")
            explained |= {twin.seq, *_followers(row, twin, broken)}


def _swapped(row: _Broken, other: _Broken) -> bool:
    """Tell whether the other row's contents, put in this row's place, fit the chain."""
    moved = _in_place_of(row, other)
    return moved in (row.link[2], other.link[2])


def _in_place_of(row: _Broken, other: _Broken) -> str:
    columns, body, _ = other.link
    return chain_hash(row.previous, (row.seq, *columns[1:]), body)


def _followers(row: _Broken, twin: _Broken, broken: list[_Broken]) -> Iterator[int]:
    """Yield the rows that only look broken because a hash before them stands elsewhere."""
    rightful = {row.seq + 1: twin.link[2], twin.seq + 1: row.link[2]}
    for other in broken:
        columns, body, stored = other.link
        if other.seq in rightful and chain_hash(rightful[other.seq], columns, body) == stored:
            yield other.seq
