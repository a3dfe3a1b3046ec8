"""Which reading of an account's funds tells the money that it begins the day with.

Sizes by capital and by risk are reckoned from that money, the same all day.  When the broker sets it anew is not
known: what is read in the night may still be yesterday's.  It serves until the first reading that comes shortly
before the market opens, or after that; that one is the day's.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from copytrader.core.hours import first_opening
from copytrader.core.model import LEADER, Funds
from copytrader.core.state import State

_BEFORE_OPENING = timedelta(minutes=15)


def is_wanted(state: State, account: str, at: datetime) -> bool:
    """Whether an account's funds are to be read: none of today are known, or only what the night told."""
    read_at = state.leader_funds_at
    if account != LEADER:
        follower = state.accounts.get(account)
        read_at = follower.funds_at if follower is not None else None
    if read_at is None:
        return True
    assert state.desk is not None
    return read_at < first_opening(state.desk.calendar, at) - _BEFORE_OPENING <= at


def take(state: State, account: str, funds: Funds, at: datetime) -> None:
    """Keep what was read of an account's funds, unless the day's are known already."""
    if not is_wanted(state, account, at):
        return
    if account == LEADER:
        state.leader_funds, state.leader_funds_at = funds, at
    elif account in state.accounts:
        follower = state.accounts[account]
        follower.funds, follower.funds_at = funds, at


def forget(state: State) -> None:
    """With the day its money is over; that of the next one is to be read."""
    state.leader_funds, state.leader_funds_at = None, None
    for account in state.accounts.values():
        account.funds, account.funds_at = None, None
