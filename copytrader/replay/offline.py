"""No connection is opened while this is in force: whoever tries, gets an error instead.

Python tells an audit hook of every connection, of every look-up of an address and of every
datagram before it is made, also of those that libraries make below Python's own socket
class.  A hook cannot be taken out again, so one is put in for the life of the process
and refuses only while somebody is `offline`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from copytrader.failure import ExitCode, Failure

_REFUSED = frozenset(
    {
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.getnameinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
    }
)


class _Guard:
    def __init__(self) -> None:
        self.depth = 0
        self.installed = False

    def __call__(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self.depth and event in _REFUSED:
            raise Failure(f"a replay opens no connection, and {event} was refused", code=ExitCode.SAFETY)


_guard = _Guard()


@contextmanager
def offline() -> Iterator[None]:
    """Refuse every connection of this process, whichever thread or library asks for it."""
    if not _guard.installed:
        sys.addaudithook(_guard)
        _guard.installed = True
    _guard.depth += 1
    try:
        yield
    finally:
        _guard.depth -= 1
