"""The live screen of `follow`: what the copier knows, drawn a few times a second.

`Watching` notes what happens as it happens and costs a few microseconds an event; `page` turns
that and the copier's state into lines that fit a terminal; `Screen` puts them there.  Nothing
here changes anything: the state is read between two events, in the loop that owns
it, and an `Outlet` writes, so that a terminal that stands still stops nothing.
"""

from __future__ import annotations

import textwrap
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import IO, Protocol, Self, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from copytrader import narrate
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.facts import (
    Accepted,
    Alert,
    Cancel,
    Connected,
    Decision,
    Disconnected,
    Event,
    Level,
    Modify,
    OrderSeen,
    Place,
    Skip,
    Source,
    TokenRefused,
)
from copytrader.core.model import LEADER, Desk, OrderStatus, RefusalClass
from copytrader.core.state import Holding, State
from copytrader.outlet import Outlet
from copytrader.render import clean

HOUR = timedelta(seconds=3605)
"""The length of the window in which the engine counts an hour's calls."""
CALLS_PER_HOUR = 1000
REMEMBERED = 1000
_MESSAGES = 50
_WIDE = 120
_MARGIN = " " * 11
"""Below the time of a message."""
_STALE_BOOK = timedelta(seconds=30)
_MISSED_BOOK = timedelta(seconds=10)

Piece = tuple[str, str]
"""Some text and its style."""
Line = list[Piece]
_COPYING: Piece = ("copying", "good")


@dataclass(slots=True)
class Message:
    """A line that was said, and how often it came."""

    at: datetime
    style: str
    text: str
    times: int = 1


@dataclass(slots=True)
class Watching:
    """What the state does not tell: when things happened, how long they took, what was said."""

    now: Callable[[], datetime]
    sent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    turned: dict[str, datetime] = field(default_factory=dict)
    messages: dict[tuple[str, str], Message] = field(default_factory=dict)

    def take(self, event: Event, decisions: Sequence[Decision], state: State) -> None:
        """Note an event and what was decided on it."""
        match event:
            case OrderSeen(source=Source.STREAM) if any(
                isinstance(each, Place | Modify | Cancel) for each in decisions
            ):
                self.sent.append((self.now() - event.at).total_seconds())
            case Accepted(correlation_id=name):
                piece = state.slices.get(name)
                if piece is not None and piece.modifications == 0 and not piece.cancelling:
                    self.answered.append((event.at - piece.placed_at).total_seconds())
            case Connected(account=account) | Disconnected(account=account):
                self.turned[account] = event.at
            case _:
                pass
        for decision in decisions:
            match decision:
                case Skip(leader_order_id=order_id):
                    self._keep(event.at, "warn", narrate.skipped(decision, state), order_id)
                case Alert(level=level, text=text):
                    if isinstance(event, TokenRefused) and event.refusal is RefusalClass.TOKEN:
                        text = f"{_login(event.account)}: {text}"
                    self._keep(event.at, "bad" if level is Level.CRITICAL else "warn", text)
                case _:
                    pass

    def note(self, text: str) -> None:
        """Keep a line that somebody says to the user."""
        self._keep(self.now(), "", text)

    def _keep(self, at: datetime, style: str, text: str, order_id: str = "") -> None:
        """Put a line last: one that comes again takes its earlier place away, a critical one is forgotten last."""
        key = text, order_id
        before = self.messages.pop(key, None)
        self.messages[key] = Message(at, style, text, before.times + 1 if before is not None else 1)
        if len(self.messages) > _MESSAGES:
            del self.messages[next((each for each in self.messages if self.messages[each].style != "bad"), key)]

    def speed(self) -> str:
        """Say how long it takes from a leader's frame to the recorded order, and to the broker's answer."""
        kinds = (("frame to order", self.sent), ("order to answer", self.answered))
        return ", ".join(f"{what} {_quantiles(seconds)}" for what, seconds in kinds if seconds)


def _quantiles(seconds: Iterable[float]) -> str:
    ordered = sorted(seconds)
    half, most = (ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] for percent in (50, 99))
    return f"p50 {_milliseconds(half)} p99 {_milliseconds(most)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


# --- The page: pure, from what is known to lines -----------------------------------------


class Connection(Protocol):
    """What the page tells of an account beside its state."""

    connected: bool
    last_frame: datetime | None
    last_book: datetime | None
    trouble: str


class Copying(Protocol):
    """What is shown: a copier, or a recording that is played."""

    state: State
    desk: Desk

    @property
    def accounts(self) -> Mapping[str, Connection]: ...


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that a page shows."""

    state: State
    accounts: Mapping[str, Connection]
    watching: Watching
    leader: str
    dry_run: bool = False
    replay: str = ""
    """How a recording is played; empty where it happens now."""

    @property
    def followers(self) -> list[str]:
        """The names that are copied to now: the state also knows those of before, for what they still hold."""
        return [name for name in self.state.accounts if name in self.accounts]


def page(known: Known, now: datetime, width: int, height: int) -> list[Line]:
    """Lay everything out in exactly so many lines, none wider than the terminal."""
    head = [*_title(known, now, width), *_accounts(known, now, width, max(3, height // 4))]
    held = list(_positions(known, max(2, height // 6)))
    least = max(2, height // 6)
    room = max(height - len(head) - len(held) - least - 2, 0)
    orders = list(islice(_orders(known, now, width), room))
    said = list(_messages(known, width, least, least + room - len(orders), max(least, height // 3)))
    room = height - len(head) - len(held) - len(said) - 1
    body = [[("leader's orders and their copies, newest first", "head")], *islice(orders, max(room, 0))]
    body += [[] for _ in range(room + 1 - len(body))]
    return [_cut(line, width) for line in (*head, *body, *held, *said)][:height]


def _title(known: Known, now: datetime, width: int) -> Iterator[Line]:
    doing = (known.replay, "warn") if known.replay else _COPYING
    names = f"{known.leader} to {', '.join(known.followers)}"
    if len(known.followers) > 1 and cell_len(names) > width // 2:
        names = f"{known.leader} to {len(known.followers)} followers"
    line = [(f"{names}: ", ""), doing]
    alarm = _alarm(known, now)
    if alarm:
        line = [(alarm, "alarm"), (f"  {line[0][0].rstrip(': ')}", "")]
        if known.replay:
            line.insert(0, (f"{known.replay}: ", "warn"))
    if known.dry_run:
        line.insert(0, ("dry run, nothing is sent: ", "warn"))
    yield _ends(line, [(f"{now:%H:%M:%S}", "")], width)
    yield [(known.watching.speed() or _nothing_timed(known.state), "dim")]


def _nothing_timed(state: State) -> str:
    """Say why there are no times: those of orders that were copied before a restart are not kept."""
    copied = any(copy.slices for order in state.orders.values() for copy in order.copies.values())
    return "no order was timed since the start" if copied else "no order copied yet"


def _alarm(known: Known, now: datetime) -> str:
    """Say what keeps everything, or everything new, from being copied, with the remedy first."""
    accounts = [known.state.accounts[name] for name in known.followers]
    halted = "HALTED" if accounts and all(account.halted for account in accounts) else ""
    return "; ".join(part for part in (halted, _deafness(known, now)) if part)


def _deafness(known: Known, now: datetime) -> str:
    """Say why the leader is not heard; it keeps exits from being copied too, which a halt does not."""
    leader = known.accounts[LEADER]
    if known.state.leader_blocked:
        what = "no entry is copied" if leader.connected else "nothing is copied"
        return f"{_login(LEADER)}: its token is refused, {what}"
    if leader.connected:
        return ""
    if leader.trouble and (leader.last_book is None or now - leader.last_book > _MISSED_BOOK):
        return "nothing is copied: the leader's stream is lost and its book cannot be read"
    return "the leader's stream is lost, copying from the book"


def _login(name: str) -> str:
    return f"copytrader login {name}"


def _accounts(known: Known, now: datetime, width: int, most: int) -> Iterator[Line]:
    """Show the leader and the followers; where there is no room for all, those in trouble first."""
    column = _name_column(known, width)
    head = f"{'account':<{column}}{'stream':<13}{'frame':>8}{'book':>8}{'calls left':>16}  state"
    yield [(head, "head")]
    followers = sorted(known.followers, key=lambda name: _standing(known, name) == _well(known))
    yield _account(known, LEADER, now, column)
    yield from _at_most([_account(known, name, now, column) for name in followers], most)


def _name_column(known: Known, width: int) -> int:
    """Return the cells of the accounts' names: as many as the longest needs, where the terminal has them to spare."""
    longest = max(cell_len(name) for name in known.accounts)
    return 14 + max(0, min(longest - 13, width - 80))


def _account(known: Known, name: str, now: datetime, column: int) -> Line:
    account = known.accounts[name]
    stream = ("up " if account.connected else "LOST ") + _age(known.watching.turned.get(name), now)
    book = _age(account.last_book, now)
    old = account.last_book is None or now - account.last_book > _STALE_BOOK
    standing, style = _standing(known, name)
    line = [
        (_fitted(name, column), ""),
        (f"{stream:<13}", "" if account.connected else "bad"),
        (f"{_age(account.last_frame, now):>8}", ""),
        (f"{book:>8}", "warn" if old else ""),
        # Where a token is refused, or nothing read, no call matters, and what is wrong must not be cut off.
        ("" if _needs_login(known, name) or account.trouble else f"{_calls_left(known.state, name, now):>16}", ""),
        (f"  {standing}", style),
    ]
    if account.trouble:
        line.append((f"; {clean(account.trouble)}", "warn"))
    return line


def _fitted(name: str, column: int) -> str:
    """Return a name as wide as its column; of a longer one both ends, for names often begin alike."""
    if len(name) >= column:
        ends = column - 2
        name = f"{name[: ends - ends // 2]}…{name[-(ends // 2) :]}"
    return set_cell_size(name, column)


def _needs_login(known: Known, name: str) -> bool:
    if name == LEADER:
        return known.state.leader_blocked
    return known.state.accounts[name].blocked is RefusalClass.TOKEN


def _standing(known: Known, name: str) -> Piece:
    if _needs_login(known, name):
        return f"token: {_login(name)}", "bad"
    if name == LEADER:
        return ("read", "good") if known.state.leader_ready else ("not read yet", "warn")
    account = known.state.accounts[name]
    if account.halted:
        return "halted", "bad"
    if account.blocked is not None:
        return f"blocked: {account.blocked}", "bad"
    return _well(known) if account.ready else ("not read yet", "warn")


def _well(known: Known) -> Piece:
    return ("replay", "good") if known.replay else _COPYING


def _calls_left(state: State, name: str, now: datetime) -> str:
    """Return what is left of the hour's calls, without touching the windows, which the engine alone moves."""
    if name == LEADER:
        return ""
    hour = state.accounts[name].budget.windows[2]
    used = len(hour) - bisect_right(hour, now - HOUR)
    return f"{CALLS_PER_HOUR - used:,} this hour"


def _orders(known: Known, now: datetime, width: int) -> Iterator[Line]:
    for order in reversed(known.state.orders.values()):
        line = _leader_order(order, known.state, now)
        copies = _copies(order, now)
        if width >= _WIDE:
            gap = max(78 - _length(line), 1)
            yield [*line, (" " * gap, ""), *copies]
        else:
            yield line
            yield [(" " * 10, ""), *copies]


def _is_over(order: LeaderOrder, now: datetime) -> bool:
    """Whether it ended with its day, which the engine takes note of at the next thing that happens."""
    return order.first_seen.date() < now.date() and not order.known.ticket.after_market


def _leader_order(order: LeaderOrder, state: State, now: datetime) -> Line:
    known = order.known
    status, style = "working", "warn"
    if known.is_filled:
        status, style = "filled", "good"
    elif known.ended is not None:
        status, style = known.ended.lower(), "dim"
    elif _is_over(order, now):
        status, style = "over with its day", "dim"
    if known.filled_quantity:
        of = "" if known.is_filled else f", {known.filled_quantity} filled"
        status += f"{of} at {narrate.price(known.average_price)}" if known.average_price else of
    terms = clean(narrate.terms(known.ticket, state))
    seen = f"{order.first_seen:%H:%M:%S}" if order.first_seen.date() == now.date() else f"{order.first_seen:%d %b}"
    return [(f"{seen:<10}", "dim"), (terms, ""), (f"  {status}", style)]


def _copies(order: LeaderOrder, now: datetime) -> Line:
    line: Line = []
    for name, copy in order.copies.items():
        text, style = _copy(copy, is_over=_is_over(order, now))
        line += [(" · " if line else "", "dim"), (f"{name} ", ""), (text, style)]
    return line or [("no copy yet", "dim")]


def _copy(copy: Copy, *, is_over: bool) -> Piece:
    """Say in a few words how one follower's copy stands."""
    if not copy.slices:
        return (copy.skip.reason, "warn") if copy.skip is not None else ("waiting", "dim")
    filled = f", {copy.filled} filled" if copy.filled else ""
    if any(piece.unknown for piece in copy.slices):
        return f"{copy.total} UNKNOWN{filled}", "bad"
    if copy.is_open and is_over:
        return f"{copy.total} over{filled}", "dim"
    if copy.is_open:
        word = "sending" if any(piece.is_open and not piece.order_id for piece in copy.slices) else "open"
        return f"{copy.total} {word}{filled}", "warn"
    ended = [piece.ended for piece in copy.slices]
    if all(each is OrderStatus.TRADED for each in ended):
        return f"{copy.filled} filled", "good"
    last = copy.slices[-1]
    return f"{last.asked.quantity} {(last.ended or OrderStatus.CANCELLED).lower()}{filled}", (
        "bad" if last.ended is OrderStatus.REJECTED else "dim"
    )


def _positions(known: Known, most: int) -> Iterator[Line]:
    rows = [
        [(f"  {clean(known.state.named(key.security))} {key.product}  ", ""), *_shares(holding)]
        for key, holding in known.state.holdings.items()
        if any(share.copied for share in holding.shares.values())
    ]
    yield [("held from copying" if rows else "nothing is held from copying", "head")]
    yield from _at_most(rows, most)


def _shares(holding: Holding) -> Line:
    """Say who holds how much; where the leader's own position is not known, nothing is said of it."""
    leader = [] if holding.leader_net is None else [(f"leader {holding.leader_net:+}", "dim")]
    held = [(f"  {share.follower} {share.copied:+}", "") for share in holding.shares.values() if share.copied]
    return [*leader, *held]


def _messages(known: Known, width: int, least: int, free: int, most: int) -> Iterator[Line]:
    """Show the newest last, in at least so many lines, so that what is above them seldom moves.

    Longer lines are wrapped as far as there is `free` room.  What is critical and what came last may have the `most`,
    though orders fill the screen.
    """
    shown = _shown(list(known.watching.messages.values()), width - len(_MARGIN), least, free, max(free, most))
    yield [("alerts and skips" if shown else "no alerts, no skips", "head")]
    for _, each, rows in shown:
        yield [(f"  {each.at:%H:%M:%S} ", "dim"), (rows[0], each.style)]
        yield from ([(_MARGIN, ""), (row, each.style)] for row in rows[1:])
    yield from ([] for _ in range(least - _rows(shown)))


Shown = tuple[int, Message, list[str]]
"""A message that has room: its place among all, and its rows."""


def _shown(messages: Sequence[Message], width: int, least: int, free: int, most: int) -> list[Shown]:
    """The newest, the critical ones before the others, which keep half of the least room."""
    newest = list(enumerate(messages))[::-1]
    critical = [each for each in newest if each[1].style == "bad"]
    others = [each for each in newest if each[1].style != "bad"]
    kept = min(len(others), least // 2)
    shown = _in_rows(critical[:1], width, most - kept)
    shown += _in_rows(critical[1:], width, most - kept - _rows(shown))
    shown += _in_rows(others[:1], width, most - _rows(shown) - max(kept - 1, 0))
    rest = others[1 : max(least - len(critical), kept)]
    shown += _in_rows(rest, width, max(free - _rows(shown), kept - 1))
    return sorted(shown, key=itemgetter(0))


def _in_rows(messages: Sequence[tuple[int, Message]], width: int, room: int) -> list[Shown]:
    """Give each of the first messages a row, and what is then left of the room to those that are longer."""
    messages = messages[: max(room, 0)]
    room -= len(messages)
    shown = []
    for place, each in messages:
        rows = _wrapped(each, width)
        last = min(len(rows) - 1, room)
        room -= last
        shown.append((place, each, [*rows[:last], " ".join(rows[last:])]))
    return shown


def _rows(shown: Iterable[Shown]) -> int:
    return sum(len(rows) for _, _, rows in shown)


def _wrapped(message: Message, width: int) -> list[str]:
    mark = "CRITICAL " if message.style == "bad" else ""
    times = f"({message.times} times) " if message.times > 1 else ""
    text = f"{mark}{times}{clean(message.text)}"
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False) or [""]


def _at_most(rows: Sequence[Line], most: int) -> Iterator[Line]:
    """Show as many rows as there is room for, and how many are not shown."""
    if len(rows) <= most:
        yield from rows
        return
    yield from rows[: most - 1]
    yield [(f"  and {len(rows) - most + 1} more", "dim")]


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return "-"
    seconds = max(int((now - since).total_seconds()), 0)
    if seconds < 100:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 6000 else f"{seconds // 3600} h"


def _length(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def _ends(left: Line, right: Line, width: int) -> Line:
    """Put one part of a line to the left edge and one to the right."""
    left = _cut(left, width - _length(right) - 1)
    return [*left, (" " * (width - _length(left) - _length(right)), ""), *right]


def _cut(line: Line, width: int) -> Line:
    """End a line at the terminal's edge, with a mark where something is missing."""
    if _length(line) <= width:
        return line
    kept: Line = []
    room = max(width - 1, 0)
    for text, style in line:
        size = min(cell_len(text), room)
        kept.append((set_cell_size(text, size), style))
        room -= size
    return [*kept, ("…", "dim")]


# --- The terminal ---------------------------------------------------------------------------

_STYLES = {
    "": "none",
    "dim": "dim",
    "head": "bold",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "alarm": "bold white on red",
}


@cache
def _style(name: str) -> Style:
    return Style.parse(_STYLES[name])


class Screen:
    """Draws pages on the terminal's other screen, so that what was there before comes back at the end."""

    def __init__(self, copier: Copying, watching: Watching, outlet: Outlet, *, dry_run: bool, replay: str = "") -> None:
        self.watching = watching
        self._copier = copier
        self._outlet = outlet
        self._dry_run = dry_run
        self._replay = replay
        pipe = cast(IO[str], _Pipe(outlet))  # rich writes, flushes and asks for the encoding, no more
        self._console = Console(file=pipe, force_terminal=True, highlight=False)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self) -> None:
        """Draw anew, unless the terminal has not taken the page before."""
        if not self._outlet.is_idle:
            return
        copier = self._copier
        leader = copier.desk.leader_client_id
        known = Known(copier.state, copier.accounts, self.watching, leader, self._dry_run, self._replay)
        width, height = self._console.size
        self._live.update(_Page(page(known, self.watching.now(), width, height)), refresh=True)


@dataclass(frozen=True, slots=True)
class _Page:
    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            yield from (Segment(text, _style(style)) for text, style in line)
            yield Segment.line()


class _Pipe:
    """What rich takes for a file: one write for each page."""

    encoding = "utf-8"

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, text: str) -> int:
        self._outlet.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""
