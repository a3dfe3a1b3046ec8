"""The copier inside a program of your own: it decides and records, sends nothing, and tells you of each decision.

    python examples/embed.py copytrader.toml        until Ctrl-C

Without `dry_run` it copies, exactly as `copytrader follow` does: the same session, the same locks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from copytrader import session
from copytrader.config import load
from copytrader.copier import Copier, Watcher
from copytrader.core.facts import Decision, Event, Place, Skip


def watch(_copier: Copier) -> Watcher:
    """Return what is called after each event is recorded; it must not block."""

    def tell(_event: Event, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Place):
                terms = decision.ticket
                print(f"{decision.account}: {terms.side} {terms.quantity} of {terms.security.security_id}", flush=True)
            elif isinstance(decision, Skip):
                print(f"{decision.account}: nothing, {decision.reason}: {decision.detail}", flush=True)

    return tell


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    config = load(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    asyncio.run(session.run(config, session.Options(dry_run=True), say, watch))
