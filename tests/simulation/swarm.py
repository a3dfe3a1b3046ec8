"""What a seed stands for: how the world behaves, which faults there are and how often.

Swarm testing: each seed draws a few kinds of trouble and leaves the others out, because a run
in which everything fails at once never gets far enough to be interesting.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TypeVar

from copytrader.simulator import FaultKind

_T = TypeVar("_T")

CRASHES = (
    "step",  # between any two steps
    "before_commit",
    "after_commit",
    "before_send",  # between the commit of a command and its first byte
    "in_flight",  # a request is on its way
    "answer",  # the answer is at the door
    "recovery",  # while it recovers from the crash before
    "stop",  # SIGTERM
    "disk",  # the journal cannot be written
    "pause",  # no end: the process is suspended between a commit and the first byte, and goes on later
)

_AT_AN_ORDER = ("before_send", "in_flight", "answer")
"""The moments that matter most, which are drawn twice as often."""

ORDER_FAULTS = (
    FaultKind.HANG,
    FaultKind.RESET,
    FaultKind.CLOSE,
    FaultKind.LATE,
    FaultKind.TRUNCATED,
    FaultKind.GATEWAY,
    FaultKind.MALFORMED,
    FaultKind.EMPTY,
    FaultKind.HTML,
    FaultKind.NO_ORDER_ID,
    FaultKind.ERROR_BODY,
    FaultKind.FAILED_BODY,
    FaultKind.ERROR,
    FaultKind.THROTTLE,
    FaultKind.REDIRECT,
    FaultKind.BODY,
    FaultKind.WRAP_LIST,
    FaultKind.WRONG_CLIENT,
    FaultKind.REJECTED,
    FaultKind.REJECT_LATER,
    FaultKind.HIDE,
)
READ_FAULTS = (
    FaultKind.HANG,
    FaultKind.RESET,
    FaultKind.CLOSE,
    FaultKind.TRUNCATED,
    FaultKind.GATEWAY,
    FaultKind.MALFORMED,
    FaultKind.EMPTY,
    FaultKind.HTML,
    FaultKind.FAILED_BODY,
    FaultKind.ERROR,
    FaultKind.THROTTLE,
    FaultKind.WRAP_LIST,
    FaultKind.WRONG_CLIENT,
)
EXTRAS = (
    "refusal",  # a definite error, not carried out
    "no_connection",  # provably never sent
    "partial_fill",
    "hand_trade",
    "hand_cancel",
    "hand_modify",
    "foreign_calls",
    "follower_token",
    "leader_token",
    "halt",
    "exchange_reject",
    "carried",
    "tight_limits",
    "resting_market",
)
STREAM_FAULTS = (
    "drop",
    "duplicate",
    "delay",
    "reorder",
    "corrupt",
    "foreign",
    "lost",
    "silent",
    "half_open",
    "refused",
)


@dataclass(frozen=True, slots=True)
class Swarm:
    """One seed's world.  Rates are chances per request, frame or action; sets name what may happen at all."""

    seed: int
    ratios: tuple[Decimal, ...]
    instruments: int
    actions: int
    pace: float
    poll_seconds: float
    latency: float
    jitter: float
    transit: float
    order_fault_rate: float
    order_faults: frozenset[FaultKind]
    read_fault_rate: float
    read_faults: frozenset[FaultKind]
    stream_fault_rate: float
    stream_faults: frozenset[str]
    crashes: tuple[str, ...]
    extras: frozenset[str]
    on_disk: bool

    @property
    def is_calm(self) -> bool:
        """Nothing goes wrong and nobody interferes: sizes can be told exactly."""
        return not (
            self.order_fault_rate
            or self.read_fault_rate
            or self.stream_fault_rate
            or self.crashes
            or self.extras - {"partial_fill", "carried"}
        )


def draw(seed: int) -> Swarm:
    rng = Random(f"swarm {seed}")
    calm = rng.random() < 0.08
    followers = rng.choice((1, 1, 2, 2, 3))
    return Swarm(
        seed=seed,
        ratios=tuple(Decimal(rng.choice(("0.5", "0.5", "1", "0.34", "2", "1.5"))) for _ in range(followers)),
        instruments=rng.choice((1, 1, 2)),
        actions=rng.randint(3, 10),
        pace=rng.choice((0.02, 0.3, 1.0, 1.0, 3.0)),
        poll_seconds=rng.choice((2.0, 5.0, 5.0)),
        latency=rng.choice((0.001, 0.01, 0.03)),
        jitter=rng.choice((0.001, 0.02, 0.1)) if calm or rng.random() < 0.85 else 1.5,
        transit=rng.choice((0.005, 0.005, 0.05, 0.5)),
        order_fault_rate=0 if calm else rng.choice((0, 0.1, 0.3, 0.5)),
        order_faults=_some(rng, ORDER_FAULTS),
        read_fault_rate=0 if calm else rng.choice((0, 0, 0.1, 0.3)),
        read_faults=_some(rng, READ_FAULTS),
        stream_fault_rate=0 if calm else rng.choice((0, 0.1, 0.3)),
        stream_faults=_some(rng, STREAM_FAULTS),
        crashes=() if calm else tuple(rng.choice(CRASHES + _AT_AN_ORDER) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
        extras=_some(rng, ("partial_fill", "carried") if calm else EXTRAS, 0.25),
        on_disk=rng.random() < 0.02,
    )


def _some(rng: Random, among: tuple[_T, ...], share: float = 0.4) -> frozenset[_T]:
    return frozenset(each for each in among if rng.random() < share)
