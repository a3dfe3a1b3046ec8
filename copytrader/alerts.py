"""Alerts to wherever the user is: Telegram, mail, ntfy and many more, by the addresses that apprise knows.

`Herald.tell` puts a line into a bounded queue and returns; each address has a thread of its
own that sends what waits there.  So a notifier that is dead or slow costs nobody else anything, least
of all an order.  The addresses are secrets: no message here shows more of one than its scheme.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pydantic import SecretStr

from copytrader.core.facts import Alert, Level

FOLD_SECONDS = 300.0
"""An alert that comes again within this of the last one sent is counted instead."""
MOST_WAITING = 200
MOST_KEPT = 50
"""Lines kept for an address that does not take any; older ones are dropped, and that is said."""
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 300.0
TITLE = "copytrader"

Send = Callable[[str, Level], bool]
"""Sends a text, which is as serious as its level; tells whether it was taken."""


class Line(NamedTuple):
    """What tells an alert from others (`key`), its text, and how serious it is."""

    key: str
    text: str
    level: Level = Level.INFO


@dataclass(slots=True)
class _Seen:
    line: Line
    since: float
    gravest: Level
    again: int = 0


@dataclass(slots=True)
class Folding:
    """Lets an alert through once, again when it has become more serious, and after five minutes how often it came."""

    seen: dict[str, _Seen] = field(default_factory=dict)

    def take(self, line: Line, now: float) -> list[Line]:
        """Return what to send for one more alert: its line, or nothing yet."""
        before = self.seen.get(line.key)
        if before is not None and now - before.since < FOLD_SECONDS and not _is_graver(line.level, before.gravest):
            before.again, before.line = before.again + 1, line
            return []
        told = [_again(before)] if before is not None and before.again else []
        self.seen[line.key] = _Seen(line, now, line.level)
        return [*told, line]

    def due(self, now: float) -> list[Line]:
        """Return a line for each alert that came again and whose five minutes are over."""
        over = [key for key, each in self.seen.items() if now - each.since >= FOLD_SECONDS]
        told = []
        for key in over:
            each = self.seen.pop(key)
            if each.again:
                told.append(_again(each))
                self.seen[key] = _Seen(each.line, now, each.line.level)
        return told

    def rest(self) -> list[Line]:
        """Return what is still to be said when nothing more will come."""
        told = [_again(each) for each in self.seen.values() if each.again]
        self.seen.clear()
        return told

    @property
    def next_due(self) -> float | None:
        return min((each.since + FOLD_SECONDS for each in self.seen.values()), default=None)


def _is_graver(level: Level, other: Level) -> bool:
    levels = list(Level)
    return levels.index(level) > levels.index(other)


def _again(each: _Seen) -> Line:
    times = "once more" if each.again == 1 else f"{each.again} times more"
    return each.line._replace(text=f"{each.line.text} ({times} within five minutes)")


class Herald:
    """Everybody who is told.  Nothing here ever waits, except `close`, and that not for long."""

    def __init__(
        self,
        urls: Sequence[SecretStr],
        least: Level = Level.WARNING,
        trouble: Callable[[str], None] | None = None,
        sender: Callable[[SecretStr], Send | None] | None = None,
    ) -> None:
        self._least = list(Level).index(least)
        self._trouble = trouble or logging.getLogger(__name__).warning
        self._channels = []
        for number, url in enumerate(urls, 1):
            name = named(url, number)
            send = (sender or by_apprise)(url)
            if send is None:
                self._trouble(f"{name} is no address that can be sent to: alerts do not go there")
            else:
                self._channels.append(_Channel(name, send, self._trouble))

    def tell(self, alert: Alert, at: datetime) -> None:
        """Send an alert, unless it is below the level that is wanted."""
        if list(Level).index(alert.level) >= self._least:
            # Many keys name the matter alone: what is said of another account is never a repeat.
            key = f"{alert.account or ''} {alert.key or alert.text}"
            self._put(Line(key, f"{at:%H:%M} {alert.level}: {alert.text}", alert.level))

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """Send a text whatever the level that is wanted."""
        self._put(Line(text, text, level))

    def close(self, patience: float = 5.0) -> None:
        """Send what waits, but do not wait longer than this for an address that does not take it."""
        end = time.monotonic() + patience
        for channel in self._channels:
            channel.put(None)
        for channel in self._channels:
            channel.join(max(end - time.monotonic(), 0))

    def _put(self, line: Line) -> None:
        for channel in self._channels:
            channel.put(line)


class _Channel:
    """One address and the thread that sends there."""

    def __init__(self, name: str, send: Send, trouble: Callable[[str], None]) -> None:
        self._name = name
        self._send = send
        self._trouble = trouble
        self._queue: queue.Queue[Line | None] = queue.Queue(MOST_WAITING)
        self._folding = Folding()
        self._backlog: list[Line] = []
        self._dropped = 0
        self._pause = 0.0
        self._not_before = 0.0
        # A daemon: an address that never answers must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"alerts {name}", daemon=True)
        self._thread.start()

    def put(self, line: Line | None) -> None:
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def join(self, patience: float) -> None:
        self._thread.join(patience)

    def _work(self) -> None:
        ended = False
        while not ended:
            ended = self._gather()
            now = time.monotonic()
            self._keep(self._folding.rest() if ended else self._folding.due(now))
            if self._backlog and (ended or now >= self._not_before):
                self._deliver()

    def _gather(self) -> bool:
        """Wait for lines and take all that are there; True once the end is among them."""
        with suppress(queue.Empty):
            line = self._queue.get(timeout=self._patience())
            while True:
                if line is None:
                    return True
                self._keep(self._folding.take(line, time.monotonic()))
                line = self._queue.get_nowait()
        return False

    def _patience(self) -> float | None:
        """Seconds until something is to be done although nobody says anything."""
        times = [time for time in (self._folding.next_due, self._not_before if self._backlog else None) if time]
        return max(min(times) - time.monotonic(), 0.01) if times else None

    def _keep(self, lines: Sequence[Line]) -> None:
        self._backlog += lines
        over = len(self._backlog) - MOST_KEPT
        if over > 0:
            del self._backlog[:over]
            self._dropped += over

    def _deliver(self) -> None:
        dropped = self._dropped
        missed = [f"{dropped} alerts are missing here: look at `copytrader audit`"] if dropped else []
        level = max((line.level for line in self._backlog), key=list(Level).index)
        if self._send("\n".join([*missed, *(line.text for line in self._backlog)]), level):
            self._backlog.clear()
            self._dropped -= dropped
            self._pause, self._not_before = 0.0, 0.0
            return
        if not self._pause:
            self._trouble(f"{self._name} does not take alerts: they are kept and sent again")
        self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        self._not_before = time.monotonic() + self._pause


def named(url: SecretStr, number: int) -> str:
    """Name an address without showing it: its place in the configuration and what kind it is."""
    scheme, colon, _ = url.get_secret_value().partition("://")
    kind = f" ({scheme})" if colon and scheme.isalnum() and len(scheme) <= 20 else ""
    return f"alerts.urls number {number}{kind}"


def by_apprise(url: SecretStr) -> Send | None:
    """Return what sends a text to an address, None where apprise does not know such an address."""
    # Its own log tells of failures with parts of the address in them; here they are told without.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        # It tries every service's library, among them some that answer for their own deprecations.
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        asset = apprise.AppriseAsset(
            app_id=TITLE,
            app_desc=TITLE,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
            http_redirects=False,  # what is told is for this address and no other
        )
        target = apprise.Apprise(asset=asset)
        if not target.add(url.get_secret_value()):
            return None

    kinds = {Level.WARNING: apprise.NotifyType.WARNING, Level.CRITICAL: apprise.NotifyType.FAILURE}

    def send(text: str, level: Level) -> bool:
        kind = kinds.get(level, apprise.NotifyType.INFO)
        return bool(target.notify(body=text, title=TITLE, notify_type=kind, body_format=apprise.NotifyFormat.TEXT))

    return send
