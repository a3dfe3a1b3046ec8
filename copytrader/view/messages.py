"""What is said on the screen and how fast the copying is: noted as it happens, in a few microseconds an event."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from copytrader import narrate
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
from copytrader.core.model import RefusalClass
from copytrader.core.outcomes import remedy
from copytrader.core.state import State
from copytrader.render import clean
from copytrader.view.lines import Line

REMEMBERED = 1000
_MESSAGES = 50
_MARGIN = " " * 11
"""Below the time of a message."""


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
        for decision in narrate.without_echoes(decisions):
            match decision:
                case Skip(leader_order_id=order_id):
                    self._keep(event.at, "warn", narrate.skipped(decision, state), order_id)
                case Alert(level=level, text=text):
                    if isinstance(event, TokenRefused) and event.refusal is RefusalClass.TOKEN:
                        text = f"{remedy(event.account, event.refusal)}: {text}"
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


def message_lines(watching: Watching, width: int, least: int, free: int, most: int) -> Iterator[Line]:
    """Show the newest last, in at least so many lines, so that what is above them seldom moves.

    Longer lines are wrapped as far as there is `free` room.  What is critical and what came last may have the `most`,
    though orders fill the screen.
    """
    shown = _shown(list(watching.messages.values()), width - len(_MARGIN), least, free, max(free, most))
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
