from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from pydantic import SecretStr

from copytrader.alerts import Herald
from copytrader.beside import _alerted, _all_watch
from copytrader.copier import Watcher
from copytrader.core.facts import Alert, Decision, Event, Level, Ticked
from copytrader.core.model import IST

TICK = Ticked(datetime(2026, 11, 23, 10, tzinfo=IST))


def test_one_who_cannot_take_what_happens_holds_nobody_up_and_is_told_on_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told, said, tried = list[Event](), list[str](), list[Event]()

    def fails(event: Event, _decisions: Sequence[Decision]) -> None:
        tried.append(event)
        raise ZeroDivisionError("no width")

    watchers: list[Watcher] = [fails, lambda event, _decisions: told.append(event)]
    failed = set[Watcher]()
    for _ in range(2):
        _all_watch(watchers, failed, said.append, TICK, ())

    assert told == tried == [TICK, TICK]
    text = "what happens is not shown or told as it should be (ZeroDivisionError); copying goes on"
    assert said == [f"CRITICAL: {text}"]
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [(text, True)]


def test_an_alert_that_has_the_same_words_for_every_follower_is_sent_once_and_not_counted() -> None:
    sent: list[str] = []

    def send(text: str, _level: Level) -> bool:
        sent.append(text)
        return True

    herald = Herald([SecretStr("json://x")], sender=lambda _url: send)
    alerts = [Alert(Level.WARNING, "the leader's order L1 is not copied", name, "kind-L1") for name in ("asha", "ravi")]
    _alerted(herald, TICK, alerts)
    herald.close()

    assert sent == ["10:00 WARNING: the leader's order L1 is not copied"]
