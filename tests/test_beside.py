from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from copytrader.beside import _all_watch
from copytrader.copier import Watcher
from copytrader.core.facts import Decision, Event, Ticked
from copytrader.core.model import IST

TICK = Ticked(datetime(2026, 11, 23, 10, tzinfo=IST))


def test_one_who_cannot_take_what_happens_holds_nobody_up_and_is_told_no_more() -> None:
    told, said = list[Event](), list[str]()

    def fails(_event: Event, _decisions: Sequence[Decision]) -> None:
        raise ZeroDivisionError("no width")

    watchers: list[Watcher] = [fails, lambda event, _decisions: told.append(event)]
    for _ in range(2):
        _all_watch(watchers, said.append, TICK, ())

    assert told == [TICK, TICK]
    assert said == ["warning: what happens is not shown as it should be any more (ZeroDivisionError: no width)"]
