"""The terminal: pages drawn a few times a second.

The state is read between two events, in the loop that owns it, and an `Outlet` writes, so that a terminal that
stands still stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import IO, Self, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from copytrader.outlet import Outlet
from copytrader.view.lines import Line
from copytrader.view.messages import Watching
from copytrader.view.page import Copying, Known, page

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
