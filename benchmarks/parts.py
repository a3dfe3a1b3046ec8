"""What single parts of the path from frame to order cost, warm, each beside the least that could do its work.

python -m benchmarks.parts
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from benchmarks.broker import frame
from benchmarks.replay import session
from copytrader import narrate
from copytrader.core.engine import step
from copytrader.core.facts import OrderSeen, Place
from copytrader.core.state import State
from copytrader.dhan.frames import read_frame
from copytrader.journal.codec import encode
from copytrader.view import Watching

CLIENT = "1000000001"
TIMES = 2_000


def microseconds(work: Callable[[], object]) -> float:
    """The quickest of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(TIMES):
            work()
        rounds.append((time.perf_counter() - began) / TIMES * 1e6)
    return min(rounds)


def main() -> None:
    text = frame(CLIENT, 1, "B", "Pending", "NA")
    state = State()
    for event, _ in session(60):
        state, decided = step(state, event)
        if isinstance(event, OrderSeen) and any(isinstance(each, Place) for each in decided):
            seen, decisions = event, decided
    watching = Watching(lambda: seen.at)

    def watched() -> None:
        watching.take(seen, decisions, state)
        list(narrate.lines(seen, decisions, state))

    parse, read = microseconds(lambda: json.loads(text)), microseconds(lambda: read_frame(text, CLIENT))
    print(f"read a frame     {read:6.1f} us, json.loads alone {parse:.1f} us")
    print(f"write a fact     {microseconds(lambda: encode(seen)):6.1f} us")
    print(f"watch an event   {microseconds(watched):6.1f} us, with {len(decisions)} decisions")


if __name__ == "__main__":
    main()
