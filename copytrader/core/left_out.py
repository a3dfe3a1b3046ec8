"""Followers that the configuration leaves out though they hold something from copying, or have orders open.

Their books are not read and nothing is sent for them: what is said of them is what was known last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from copytrader.core.copies import Key
from copytrader.core.state import Share, State


def left_out(state: State) -> dict[str, str]:
    """Say for each such follower what it has."""
    assert state.desk is not None
    served = {follower.name for follower in state.desk.followers}
    return {name: has for name in state.accounts if name not in served and (has := what(state, name))}


def what(state: State, name: str) -> str:
    """Say what a follower has from copying; nothing where that is nothing."""
    held = [f"{share.left:+} {state.named(key.security)} {key.product}" for key, share in parts(state, name)]
    return told(held, len(state.accounts[name].open))


def told(held: Sequence[str], open_orders: int) -> str:
    """Say what is held and how many orders are open, as a sentence goes on after a name."""
    has = [f"holds {', '.join(held)} from copying"] if held else []
    has += [f"has {open_orders} order{'s' if open_orders > 1 else ''} open"] if open_orders else []
    return " and ".join(has)


def parts(state: State, name: str) -> Iterator[tuple[Key, Share]]:
    """Its copied positions, without those that have expired."""
    for key, holding in state.holdings.items():
        share, instrument = holding.shares.get(name), state.instruments.get(key.security)
        expiry = instrument.expiry if instrument is not None else None
        is_over = expiry is not None and state.day is not None and expiry < state.day
        if share is not None and share.left and not is_over:
            yield key, share
