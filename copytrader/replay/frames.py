"""A file of raw order-update frames, one JSON object a line, as the events of a day.

A line is a frame as it came (`{"Data": …, "Type": "order_alert"}` or the order alone), perhaps with the
time at which it was logged beside it (`logged_at`, `at` or `time`); without one, an order's own
time of its last change stands in.  Frames alone do not tell what was held before or what an
instrument is beyond what they say themselves: positions begin flat, and lot size and tick
come from the frames unless the instrument master knows better.

No line is left out in silence: what cannot be played is told with its reason.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from copytrader import __version__
from copytrader.core.facts import BookRead, Connected, Event, FrameRefused, InstrumentRead, OrderSeen, Source, Started
from copytrader.core.model import IST, LEADER, Desk, Instrument, Order, Security
from copytrader.dhan.fields import FrameError
from copytrader.dhan.frames import NotAnOrder, read_frame
from copytrader.failure import ExitCode, Failure

_LOGGED = ("logged_at", "at", "time")
_RAW_AT_MOST = 4096
_NUMBERS = 5
_ASK = Callable[[Security], Instrument | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: its text, its `Data`, when it was logged, and the order or why there is none."""

    number: int
    text: str
    data: dict[str, Any]
    logged_at: datetime | None
    found: Order | FrameError | NotAnOrder


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A line that is not played, by its number, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Frames:
    """A file of frames of one leader."""

    leader_client_id: str
    lines: tuple[Line, ...]

    def passed_over(self) -> list[PassedOver]:
        """Return what is not played; the rest is all there is."""
        return [PassedOver(line.number, str(line.found)) for line in self.lines if not isinstance(line.found, Order)]

    def timed(self) -> Iterator[tuple[Line, datetime]]:
        """Give each line a time that does not go back: its own, or that of the line before it."""
        stamps = [line.logged_at or _time(line.data.get("lastupdatedtime")) for line in self.lines]
        now = next((at for at in stamps if at is not None), None)
        if now is None:
            raise Failure("no frame has a time: neither logged_at nor lastUpdatedTime", code=ExitCode.USAGE)
        for line, at in zip(self.lines, stamps, strict=True):
            now = now if at is None else max(at, now)
            yield line, now


def read(path: Path) -> Frames:
    """Read a file of frames; raise where none can be read.  The leader is whom most frames belong to."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Failure(f"{path} is no text: neither a journal nor a file of frames", code=ExitCode.USAGE) from None
    # Not `splitlines`: a broker's text may hold what Python takes for the end of a line and JSON does not.
    rows = [(number, row, _object(row)) for number, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not rows:
        raise Failure(f"{path} holds no frames", code=ExitCode.USAGE)
    ids = Counter(str(data["clientid"]) for *_, (data, _) in rows if data.get("clientid"))
    leader = ids.most_common(1)[0][0] if ids else ""
    lines = tuple(Line(number, row, *known, _found(row, leader)) for number, row, known in rows)
    if not ids or not any(isinstance(line.found, Order) for line in lines):
        what = "no frame names its client" if not ids else "no line is a frame that can be read"
        why = f"{path}:{lines[0].number}: {lines[0].found}; {what}"
        raise Failure(f"{why}: a replay reads a journal or a .jsonl of frames", code=ExitCode.USAGE)
    return Frames(leader, lines)


def told(passed_over: Sequence[PassedOver], lines: int) -> str:
    """Say how many lines are not played, why, and where the first of them are."""
    where: defaultdict[str, list[int]] = defaultdict(list)
    for each in passed_over:
        where[each.why].append(each.line)
    reasons = "; ".join(f"{why} ({_numbers(numbers)})" for why, numbers in where.items())
    return f"{len(passed_over):,} of {lines:,} lines are passed over: {reasons}"


def _numbers(numbers: Sequence[int]) -> str:
    first = ", ".join(map(str, numbers[:_NUMBERS]))
    more = f" and {len(numbers) - _NUMBERS:,} more" if len(numbers) > _NUMBERS else ""
    return f"line{'s' if len(numbers) > 1 else ''} {first}{more}"


def events(frames: Frames, instrument: _ASK) -> Iterator[Event]:
    """Yield what a copier would have recorded of these frames, whoever follows: nobody is on the desk yet."""
    stamped = list(frames.timed())
    begins = stamped[0][1]
    yield Started(begins, __version__, "", Desk(frames.leader_client_id, ()))
    yield Connected(begins, LEADER)
    yield BookRead(begins, LEADER, (), ())
    known: set[Security] = set()
    for line, at in stamped:
        raw = line.text[:_RAW_AT_MOST]
        match line.found:
            case Order() as order:
                security = order.ticket.security
                if security not in known:
                    known.add(security)
                    found = _chosen(instrument(security), _instrument(line.data, security))
                    if found is not None:
                        yield InstrumentRead(at, found)
                yield OrderSeen(at, LEADER, order, Source.STREAM, raw)
            case FrameError() as error:
                yield FrameRefused(at, LEADER, str(error), raw)
            case NotAnOrder():
                pass


def _chosen(master: Instrument | None, frame: Instrument | None) -> Instrument | None:
    """Prefer the master, which knows more, unless it knows another contract by that number, or a lot of another size.

    Exchanges give a number anew once what bore it has expired.
    """
    if master is not None and (frame is None or _agree(frame, master)):
        return master
    return frame


def _agree(frame: Instrument, master: Instrument) -> bool:
    told = (
        (frame.lot_size, master.lot_size),
        (frame.expiry, master.expiry),
        (frame.strike, master.strike),
        (frame.option_type, master.option_type),
    )
    return all(not said or said == known for said, known in told)


def _object(text: str) -> tuple[dict[str, Any], datetime | None]:
    """Return what a line says beside its order: its `Data` as it stands, and when it was logged."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return {}, None
    if not isinstance(row, dict):
        return {}, None
    inner = next((value for key, value in row.items() if key.lower() == "data"), row)
    data = {str(key).lower(): value for key, value in inner.items()} if isinstance(inner, dict) else {}
    return data, _logged_at(row, inner is not row)


def _found(text: str, client_id: str) -> Order | FrameError | NotAnOrder:
    try:
        return read_frame(text, client_id)
    except (FrameError, NotAnOrder) as reason:
        return reason


def _logged_at(row: dict[str, Any], enveloped: bool) -> datetime | None:
    for key in _LOGGED if enveloped else _LOGGED[:1]:
        if isinstance(row.get(key), str):
            return _time(row[key])
    return None


def _time(text: object) -> datetime | None:
    """Read a time as logs and frames have it; without a zone it is Indian."""
    try:
        found = datetime.fromisoformat(str(text).strip().replace(",", "."))
    except ValueError:
        return None
    return found.replace(tzinfo=IST) if found.tzinfo is None else found.astimezone(IST)


def _instrument(data: dict[str, Any], security: Security) -> Instrument | None:
    """Make an instrument of what a frame says of it; None where it does not say how large a lot is."""
    lot, tick = _decimal(data.get("lotsize")), _decimal(data.get("ticksize"))
    if lot is None or lot < 1 or tick is None:
        return None
    multiplier = _decimal(data.get("multiplier"))
    kind = str(data.get("instrument") or "")
    option = str(data.get("opttype") or "") if kind.startswith("OPT") else ""
    return Instrument(
        security,
        str(data.get("displayname") or data.get("symbol") or security.security_id),
        int(lot),
        tick,
        multiplier=None if multiplier is None else int(multiplier),
        underlying=str(data.get("symbol") or "").split("-")[0],
        instrument_type=kind,
        expiry=_day(data.get("expirydate")),
        strike=_decimal(data.get("strikeprice")) if option else None,
        option_type=option,
    )


def _decimal(value: object) -> Decimal | None:
    try:
        return Decimal(str(value)) if value is not None else None
    except InvalidOperation:
        return None


def _day(value: object) -> date | None:
    found = _time(value)
    return None if found is None or found.year <= 1 else found.date()
