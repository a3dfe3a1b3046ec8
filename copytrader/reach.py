"""Tells when an account has been out of reach for a while, and when it is back; each once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from copytrader.account import Account
from copytrader.core.facts import Level
from copytrader.core.model import LEADER

OUT_OF_REACH_AFTER, STREAM_DOWN_AFTER = timedelta(seconds=30), timedelta(seconds=60)
"""When it is said that a book cannot be read; and that the stream alone is down, which is tried with growing pauses."""


class Said(NamedTuple):
    """What a person should know of it."""

    level: Level
    text: str
    key: str


def watch(account: Account, now: datetime, *, is_minded: bool, is_ready: bool, is_polled: bool) -> Said | None:
    """Look at an account once more; return what is to be said.

    `is_minded`: anybody should miss it now, in market hours and not refused.  `is_ready`: its book was read once.
    `is_polled`: its book is read at a steady pace, so that a stream which is down loses nothing.
    """
    name, lost = account.name, account.unread or not account.connected
    if not lost or not is_minded:
        account.lost_since = None
        if account.lost_said and not lost:
            account.lost_said = False
            return Said(Level.WARNING, f"{name} is back: book and order stream", f"back-{name}")
        return None
    account.lost_since = account.lost_since or now
    most = OUT_OF_REACH_AFTER if account.unread or not is_polled else STREAM_DOWN_AFTER
    if now - account.lost_since < most or account.lost_said:
        return None
    account.lost_said = True
    return Said(Level.CRITICAL, _loss_of(account, most, is_ready=is_ready, is_polled=is_polled), f"lost-{name}")


def _loss_of(account: Account, since: timedelta, *, is_ready: bool, is_polled: bool) -> str:
    what = ["its book cannot be read"] * account.unread + ["its order stream is down"] * (not account.connected)
    text = f"{account.name} is out of reach: for {since.total_seconds():.0f} s {' and '.join(what)}"
    if account.name != LEADER:
        text += "" if is_ready else "; nothing is copied to it"
    elif len(what) > 1 or not is_ready or not (account.connected or is_polled):
        text += "; nothing is copied"
    return f"{text} ({account.trouble})" if account.trouble else text
