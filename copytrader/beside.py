"""What a session has beside its copier: alerts sent, the log kept, the day summed up, systemd told.

All of it only watches: nothing here can hold an order up or change what is copied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, time, timedelta
from functools import partial

from copytrader import narrate, systemd
from copytrader.alerts import Herald
from copytrader.config import Config
from copytrader.copier import Copier, Watcher
from copytrader.core.facts import Alert, Decision, Event, Halted, Level, Resumed
from copytrader.core.model import IST
from copytrader.failure import Failure
from copytrader.summary import Tally

CLOSE = time(15, 40)
"""When the last exchange of shares and their derivatives has closed, by Indian time."""

_log = logging.getLogger(__name__)
Say = Callable[[str], None]
Work = Callable[[], Awaitable[None]]


@contextmanager
def attended(
    config: Config, copier: Copier, tally: Tally, say: Say, write: Say, watcher: Watcher | None = None
) -> Iterator[Sequence[Work]]:
    """Watch a copier while the block runs; yield what is to run beside it.

    However it ends, whoever gets the alerts is told so: a copier that died must not look like a quiet one.
    """
    with closing(Herald(config.alerts.urls, config.alerts.level, say)) as herald:
        day = _Day(tally, copier, say, herald.say)
        watchers: list[Watcher] = [watcher] if watcher is not None else []
        watchers += [day.watch, partial(_alerted, herald)]
        watchers += [partial(_written, copier, write)] if config.log is not None else []
        status = partial(_status, config, copier)
        watchers += [partial(_reported, copier, status)]
        copier.watch(partial(_all_watch, watchers, set(), partial(herald.say, level=Level.CRITICAL)))
        try:
            yield [day.at_the_close, partial(systemd.attend, copier.ready, status)]
        except BaseException as error:
            why = error.lines[0] if isinstance(error, Failure) else type(error).__name__
            text = f"{Level.CRITICAL}: follow has ended and copies nothing: {why}"
            herald.say(text, Level.CRITICAL)
            write(text)
            day.write_left(write)
            raise
        else:
            day.at_the_end(write, lambda text: herald.tell(Alert(Level.INFO, text), datetime.now(IST)))
        finally:
            systemd.notify("STOPPING=1")


class _Day:
    """Tells the day's summary at the close, and again at the end if more has happened."""

    def __init__(self, tally: Tally, copier: Copier, say: Say, herald: Say) -> None:
        self._tally = tally
        self._copier = copier
        self._say = say
        self._herald = herald
        self._told = ""

    def watch(self, event: Event, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            self._tally.add(decision, event.at)

    async def at_the_close(self) -> None:
        while True:
            await asyncio.sleep(_seconds_to_close(datetime.now(IST)))
            text = self._news()
            if text:
                self._say(text)
                self._herald(text)

    def at_the_end(self, write: Say, otherwise: Say) -> None:
        """Sum up for whoever is away; whoever looks on is shown what is left by the screen, and the log keeps it."""
        text, state = self._news(), self._copier.state
        if text:
            self._say(f"follow was stopped. {self._tally.counts(state)}")
            self._herald(f"follow was stopped. {text}")
        else:
            otherwise("follow was stopped")
        self.write_left(write)

    def write_left(self, write: Say) -> None:
        state = self._copier.state
        for line in narrate.left_open(state):
            write(f"left: {line}")
        for line in narrate.left_on_paper(state):
            write(f"on paper: {line}")

    def _news(self) -> str:
        """Return the day's summary, nothing where it was told already."""
        text = "" if self._tally.is_empty else self._tally.paragraph(self._copier.state)
        if text == self._told:
            return ""
        self._told = text
        return text


def _seconds_to_close(now: datetime) -> float:
    close = datetime.combine(now.date(), CLOSE, IST)
    return (close if now < close else close + timedelta(days=1)).timestamp() - now.timestamp()


def _status(config: Config, copier: Copier) -> str:
    text = f"following {config.leader.client_id} for {', '.join(config.enabled)}"
    return "; ".join(part for part in (text, narrate.halted(copier.state)) if part)


def _reported(copier: Copier, status: Callable[[], str], event: Event, _decisions: Sequence[Decision]) -> None:
    if isinstance(event, Halted | Resumed) and copier.ready.is_set():
        systemd.notify(f"STATUS={status()}")


def _alerted(herald: Herald, event: Event, decisions: Sequence[Decision]) -> None:
    for decision in narrate.without_echoes(decisions):
        if isinstance(decision, Alert):
            herald.tell(decision, event.at)


def _written(copier: Copier, write: Say, event: Event, decisions: Sequence[Decision]) -> None:
    for text in narrate.lines(event, decisions, copier.state):
        write(text)


def _all_watch(
    watchers: Sequence[Watcher], failed: set[Watcher], alarm: Say, event: Event, decisions: Sequence[Decision]
) -> None:
    """Tell everybody.  Whatever goes wrong there is said once of each, and ends no copying: no order waits for it."""
    for watcher in watchers:
        try:
            watcher(event, decisions)
        except Exception as error:  # noqa: BLE001  # whatever it is, no order waits for who looks on
            text = f"what happens is not shown or told as it should be ({type(error).__name__}); copying goes on"
            if watcher not in failed:
                failed.add(watcher)
                _log.exception("%s", text)
                alarm(f"{Level.CRITICAL}: {text}")
