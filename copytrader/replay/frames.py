"""A file of raw order-update frames, one JSON object a line, as the events of a day.

A line is a frame as it came (`{"Data": …, "Type": "order_alert"}` or the order alone), perhaps with the
time at which it was logged beside it (`logged_at`, `at` or `time`); without one, an order's own
time of its last change stands in.  Frames alone do not tell what was held before or what an
instrument is beyond what they say themselves: positions begin flat, and lot size and tick
come from the frames unless the instrument master knows better.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from copytrader import __version__
from copytrader.core.facts import BookRead, Connected, Event, FrameRefused, InstrumentRead, OrderSeen, Source, Started
from copytrader.core.model import IST, LEADER, Desk, Instrument, Security
from copytrader.dhan.fields import FrameError
from copytrader.dhan.frames import NotAnOrder, read_frame
from copytrader.failure import ExitCode, Failure

_LOGGED = ("logged_at", "at", "time")
_RAW_AT_MOST = 4096
_ASK = Callable[[Security], Instrument | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: a frame's text, its `Data`, and when it was logged."""

    text: str
    data: dict[str, Any]
    logged_at: datetime | None


def read(path: Path) -> list[Line]:
    """Read a file of frames; raise where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{path} is no text: neither a journal nor a file of frames", code=ExitCode.USAGE) from None
    lines = [_line(path, number, row) for number, row in enumerate(text.splitlines(), 1) if row.strip()]
    if not lines:
        raise Failure(f"{path} holds no frames", code=ExitCode.USAGE)
    return lines


def leader_of(lines: Sequence[Line], path: Path) -> str:
    """Return the client id that most frames belong to."""
    ids = Counter(str(line.data["clientid"]) for line in lines if line.data.get("clientid"))
    if not ids:
        raise Failure(f"{path}: no frame names its client", code=ExitCode.USAGE)
    return ids.most_common(1)[0][0]


def events(lines: Sequence[Line], leader_client_id: str, instrument: _ASK) -> Iterator[Event]:
    """Yield what a copier would have recorded of these frames, whoever follows: nobody is on the desk yet."""
    stamped = list(timed(lines))
    begins = stamped[0][1]
    yield Started(begins, __version__, "", Desk(leader_client_id, ()))
    yield Connected(begins, LEADER)
    yield BookRead(begins, LEADER, (), ())
    known: set[Security] = set()
    for line, at in stamped:
        event = _event(line, leader_client_id, at)
        if isinstance(event, OrderSeen) and event.order.ticket.security not in known:
            security = event.order.ticket.security
            known.add(security)
            found = _chosen(instrument(security), _instrument(line.data, security))
            if found is not None:
                yield InstrumentRead(at, found)
        if event is not None:
            yield event


def _chosen(master: Instrument | None, frame: Instrument | None) -> Instrument | None:
    """Prefer the master, which knows more, unless the lot was of another size on the day of the frames."""
    if master is not None and (frame is None or frame.lot_size == master.lot_size):
        return master
    return frame


def _line(path: Path, number: int, text: str) -> Line:
    try:
        row = json.loads(text)
    except ValueError:
        raise Failure(
            f"{path}:{number} is not JSON; a file of frames has one on each line", code=ExitCode.USAGE
        ) from None
    if not isinstance(row, dict):
        return Line(text, {}, None)
    inner = next((value for key, value in row.items() if key.lower() == "data"), row)
    data = {str(key).lower(): value for key, value in inner.items()} if isinstance(inner, dict) else {}
    return Line(text, data, _logged_at(row, inner is not row))


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


def timed(lines: Sequence[Line]) -> Iterator[tuple[Line, datetime]]:
    """Give each frame a time that does not go back: its own, or that of the frame before it."""
    now: datetime | None = None
    for line in lines:
        own = line.logged_at or _time(line.data.get("lastupdatedtime")) or now
        if own is None:
            raise Failure("the first frame has no time: neither logged_at nor lastUpdatedTime", code=ExitCode.USAGE)
        now = own if now is None else max(own, now)
        yield line, now


def _event(line: Line, client_id: str, at: datetime) -> OrderSeen | FrameRefused | None:
    raw = line.text[:_RAW_AT_MOST]
    try:
        return OrderSeen(at, LEADER, read_frame(line.text, client_id), Source.STREAM, raw)
    except NotAnOrder:
        return None
    except FrameError as error:
        return FrameRefused(at, LEADER, str(error), raw)


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
