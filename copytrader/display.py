"""How a running session is shown: plain lines, a live screen, or the facts as JSON lines.

Each watches a copier and tells, at the end, what stays behind.  All of them write by threads
of their own; in the copier's loop an event costs microseconds, whatever the terminal does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from copytrader import narrate
from copytrader.journal import Journal, JournalError
from copytrader.outlet import Outlet, writer
from copytrader.render import clean, folded, width_of

if TYPE_CHECKING:
    from copytrader.copier import Copier, Watcher
    from copytrader.core.facts import Decision, Event
    from copytrader.journal.rows import Row
    from copytrader.view import Screen

DRAW_EVERY = 0.25
"""Seconds between two pages of the live screen."""
_GATHER = 0.05
"""Seconds that facts are gathered before they are written: right after an event its orders leave first."""
_LAST_FACTS = 2.0


class Form(StrEnum):
    PLAIN = "plain"
    LIVE = "live"
    JSON = "json"


def form_for(stream: TextIO, *, plain: bool, as_json: bool) -> Form:
    """Choose the live screen where there is a terminal that can have one and nobody wants otherwise."""
    if as_json:
        return Form.JSON
    able = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return Form.LIVE if able and not plain else Form.PLAIN


class Display:
    """Plain lines: what is said as it is, what happens with its time."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._copier: Copier | None = None

    def say(self, text: str) -> None:
        self._outlet.write(f"{folded(clean(text), width_of(self._outlet.stream))}\n")

    def watch(self, copier: Copier) -> Watcher:
        self._copier = copier
        return self._tell

    async def close(self) -> None:
        """Say what stays behind, if anything was copied at all."""
        if self._copier is None:
            return
        state = self._copier.state
        left, paper = list(narrate.left_open(state)), list(narrate.left_on_paper(state))
        if not (left or paper or self._copier.ready.is_set()):
            return
        if left:
            self._list("stopped; nobody looks after these until `copytrader follow` runs again:", left)
        elif state.dry_run:
            self.say("stopped; it was a dry run, nothing of it was sent")
        else:
            self.say("stopped; no copy is open and nothing is held from copying")
        if paper:
            self._list("on paper, together with whatever was copied live before:", paper)

    def _list(self, title: str, lines: Sequence[str]) -> None:
        for text in (title, *(f"  {line}" for line in lines)):
            self.say(text)

    def _tell(self, event: Event, decisions: Sequence[Decision]) -> None:
        assert self._copier is not None
        for text in narrate.lines(event, decisions, self._copier.state):
            self.say(f"{event.at:%H:%M:%S} {text}")


class JsonDisplay(Display):
    """Every fact of this session on stdout, one JSON document a line; what is said, on stderr."""

    def __init__(self, outlet: Outlet, journal: Path, stream: TextIO) -> None:
        super().__init__(outlet)
        self._journal = journal
        self._stream = stream
        self._facts: _FactLines | None = None

    def watch(self, copier: Copier) -> Watcher:
        super().watch(copier)
        self._facts = _FactLines(self._journal, self._stream, self.say)
        return self._facts.wake

    async def close(self) -> None:
        await super().close()
        if self._facts is not None:
            await asyncio.to_thread(self._facts.close)


class LiveDisplay(Display):
    """A screen once copying has begun; what is said meanwhile is shown there, and again at the end."""

    def __init__(self, outlet: Outlet, now: Callable[[], datetime], *, dry_run: bool) -> None:
        super().__init__(outlet)
        self._now = now
        self._dry_run = dry_run
        self._begun = asyncio.Event()
        self._screen: Screen | None = None
        self._drawing: asyncio.Task[None] | None = None
        self._said: list[str] = []

    def say(self, text: str) -> None:
        if self._screen is not None:
            self._said.append(text)
            self._screen.watching.note(text)
            return
        super().say(text)
        if self._copier is not None and self._copier.ready.is_set():
            self._begun.set()

    def watch(self, copier: Copier) -> Watcher:
        from copytrader.view import Screen, Watching

        tell = super().watch(copier)
        watching = Watching(self._now)
        self._drawing = asyncio.ensure_future(self._draw(Screen(copier, watching, self._outlet, dry_run=self._dry_run)))
        self._drawing.add_done_callback(self._drawn)

        def note(event: Event, decisions: Sequence[Decision]) -> None:
            watching.take(event, decisions, copier.state)
            if self._screen is None:
                tell(event, decisions)

        return note

    async def close(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
            await asyncio.wait({self._drawing})
        for text in self._said:
            super().say(text)
        await super().close()

    def _drawn(self, drawing: asyncio.Task[None]) -> None:
        """Say that there is no screen any more, where nobody has ended it; lines go on."""
        error = None if drawing.cancelled() else drawing.exception()
        if error is not None:
            super().say(f"warning: the screen cannot be drawn, lines follow ({type(error).__name__}: {error})")

    async def _draw(self, screen: Screen) -> None:
        await self._begun.wait()
        with screen:
            self._screen = screen
            try:
                while True:
                    screen.draw()
                    await asyncio.sleep(DRAW_EVERY)
            finally:
                self._screen = None


class _FactLines:
    """Reads the journal in a thread, as fast as whoever reads stdout takes it: nothing is left out."""

    def __init__(self, path: Path, stream: TextIO, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._write = writer(stream)
        with Journal.open(path, read_only=True) as journal:
            self._seq = journal.last_seq
        self._news = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="facts", daemon=True)
        self._thread.start()

    def wake(self, _event: Event, _decisions: Sequence[Decision]) -> None:
        self._news.set()

    def close(self) -> None:
        """Write the last facts, but do not wait for ever for a reader that stands still."""
        self._ending = True
        self._news.set()
        self._thread.join(_LAST_FACTS)

    def _work(self) -> None:
        try:
            self._write_all()
        except BrokenPipeError:
            return  # the reader has left
        except (OSError, JournalError) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            self._say(f"warning: facts are printed no longer: {what}; copying goes on, and the journal has all of them")

    def _write_all(self) -> None:
        with Journal.open(self._path, read_only=True) as journal:
            while True:
                self._news.wait()
                time.sleep(_GATHER)
                self._news.clear()
                ending = self._ending
                for row in journal.facts(self._seq):
                    self._write(_line(row))
                    self._seq = row.seq
                if ending:
                    return


def _line(row: Row) -> str:
    """Return a fact as JSON: its columns, and its body as it stands in the journal."""
    columns = {name: value for name, value in row._asdict().items() if name not in ("body", "hash")}
    return f'{json.dumps(columns)[:-1]}, "body": {row.body}}}\n'


@contextmanager
def logged(display: Display) -> Iterator[None]:
    """Let warnings come by the same way as everything else, so that none lands amid a screen."""
    handler = _Said(display)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Said(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(f"{record.levelname.lower()}: {record.getMessage()}")
