"""The page: what the copier knows, laid out for a terminal.  Pure, and nothing here changes anything."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol

from rich.cells import cell_len, set_cell_size

from copytrader import narrate
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.model import LEADER, Desk, OrderStatus, RefusalClass
from copytrader.core.outcomes import remedy
from copytrader.core.state import Holding, State
from copytrader.render import clean
from copytrader.view.lines import Line, Piece, as_many, at_most, cut, ends, length
from copytrader.view.messages import Watching, message_lines

HOUR = timedelta(seconds=3605)
"""The length of the window in which the engine counts an hour's calls."""
CALLS_PER_HOUR = 1000
_WIDE, _COPIES_AT = 120, 78
"""A terminal this wide has an order and its copies on one line, these from this cell on."""
_STALE_BOOK = timedelta(seconds=30)
_MISSED_BOOK = timedelta(seconds=10)

_COPYING: Piece = ("copying", "good")


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
    held = list(_positions(known, width, max(2, height // 6)))
    least = max(2, height // 6)
    room = max(height - len(head) - len(held) - least - 2, 0)
    orders = list(_orders(known, now, width, room))
    said = list(message_lines(known.watching, width, least, least + room - len(orders), max(least, height // 3)))
    room = height - len(head) - len(held) - len(said) - 1
    body = [[("leader's orders and their copies, newest first", "head")], *_orders(known, now, width, room)]
    body += [[] for _ in range(room + 1 - len(body))]
    return [cut(line, width) for line in (*head, *body, *held, *said)][:height]


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
    yield ends(line, [(f"{now:%H:%M:%S}", "")], width)
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
    return remedy(name, RefusalClass.TOKEN)


def _accounts(known: Known, now: datetime, width: int, most: int) -> Iterator[Line]:
    """Show the leader and the followers; where there is no room for all, those in trouble first."""
    column = _name_column(known, width)
    head = f"{'account':<{column}}{'stream':<13}{'frame':>8}{'book':>8}{'calls left':>16}  state"
    yield [(head, "head")]
    followers = sorted(known.followers, key=lambda name: _standing(known, name) == _well(known))
    yield _account(known, LEADER, now, column)
    yield from at_most([_account(known, name, now, column) for name in followers], most)


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


def _orders(known: Known, now: datetime, width: int, most: int) -> Iterator[Line]:
    """Show as many orders as so many lines have room for, none without its copies."""
    is_wide = width >= _WIDE
    for order in islice(reversed(known.state.orders.values()), max(most, 0) // (1 if is_wide else 2)):
        line, copies = _leader_order(order, known.state, now), _copies(order, now)
        if is_wide:
            gap = max(_COPIES_AT - length(line), 1)
            yield as_many([*line, (" " * gap, "")], copies, width)
        else:
            yield line
            yield as_many([(" " * 10, "")], copies, width)


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


def _copies(order: LeaderOrder, now: datetime) -> Sequence[Line]:
    """Say how each follower's copy stands, one part for each."""
    parts: list[Line] = []
    for name, copy in order.copies.items():
        text, style = _copy(copy, is_over=_is_over(order, now))
        parts.append([(" · " if parts else "", "dim"), (f"{name} ", ""), (text, style)])
    return parts or [[("no copy yet", "dim")]]


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


def _positions(known: Known, width: int, most: int) -> Iterator[Line]:
    rows = [
        as_many([(f"  {clean(known.state.named(key.security))} {key.product}  ", ""), *_leaders(holding)], held, width)
        for key, holding in known.state.holdings.items()
        if (held := _shares(holding))
    ]
    yield [("held from copying" if rows else "nothing is held from copying", "head")]
    yield from at_most(rows, most)


def _leaders(holding: Holding) -> Line:
    """Say what the leader holds; nothing where that is not known."""
    return [] if holding.leader_net is None else [(f"leader {holding.leader_net:+}", "dim")]


def _shares(holding: Holding) -> Sequence[Line]:
    """Say how much each follower holds, one part for each."""
    return [[(f"  {share.follower} {share.left:+}", "")] for share in holding.shares.values() if share.left]


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return "-"
    seconds = max(int((now - since).total_seconds()), 0)
    if seconds < 100:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 6000 else f"{seconds // 3600} h"
