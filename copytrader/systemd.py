"""What systemd wants to hear of a service: that it is ready, that it lives, that it ends.

Nothing is said where systemd does not listen (`NOTIFY_SOCKET` is not set).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress


def notify(state: str) -> bool:
    """Tell systemd; False where it does not listen."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        channel.sendto(state.encode(), address)
        return True
    return False


def watchdog_seconds() -> float | None:
    """Return how often a sign of life is due: a third of what systemd waits; None where it does not watch us."""
    with suppress(ValueError, KeyError):
        if int(os.environ.get("WATCHDOG_PID") or os.getpid()) == os.getpid():
            microseconds = int(os.environ["WATCHDOG_USEC"])
            return microseconds / 3_000_000 if microseconds > 0 else None
    return None


async def attend(ready: asyncio.Event, status: Callable[[], str]) -> None:
    """Report the loop that this runs in: ready once it is, with what it does then, alive for as long as it turns."""
    await ready.wait()
    if not notify(f"READY=1\nSTATUS={status()}"):
        return
    pause = watchdog_seconds()
    while pause is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)
