"""The troubles that a long run must have met, or it has proved less than it says."""

from __future__ import annotations

from collections import Counter

from tests.simulation.swarm import CRASHES, EXTRAS, ORDER_FAULTS, STREAM_FAULTS

_DONE_OTHERWISE = frozenset({"partial_fill", "carried", "tight_limits", "resting_market"})
"""How the world is made, not something that happens."""

ALL = (
    *(f"crash {kind}" for kind in CRASHES),
    *(f"fault {kind}" for kind in ORDER_FAULTS),
    *(f"stream {kind}" for kind in STREAM_FAULTS),
    *sorted(set(EXTRAS) - _DONE_OTHERWISE),
    "arrived POST",
    "arrived PUT",
    "arrived DELETE",
    "died_half_written",
    "forced_reconnect",
    "got_out",
    "on_disk",
)


def never_met(counts: Counter[str]) -> list[str]:
    return [kind for kind in ALL if not counts[kind]]
