"""Places where a test lets the process die, as if it were killed from outside at that very moment.

`$COPYTRADER_CRASH` names one: `sending`, narrower `sending-Cancel` or `committed-Accepted-PLACE`, or
`sending-Cancel:2` for the second time that it is reached.  Without the variable nothing here does anything.
"""

from __future__ import annotations

import os
import signal


class _Crash:
    def __init__(self, text: str) -> None:
        self.name, _, times = text.partition(":")
        self.left = int(times or 1)

    def reached(self, name: str, about: tuple[object, ...]) -> None:
        if self.name not in {name, *(f"{name}-{word}" for each in about for word in _words(each))}:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _words(about: object) -> tuple[str, ...]:
    if isinstance(about, str):
        return (about,)
    kind = type(about).__name__
    return kind, f"{kind}-{getattr(about, 'verb', '')}"


_crash = _Crash(text) if (text := os.environ.get("COPYTRADER_CRASH")) else None


def crash_point(name: str, *about: object) -> None:
    """Die here if this is the place asked for; `about` narrows it down, by a word or by a value's class."""
    if _crash is not None:
        _crash.reached(name, about)
