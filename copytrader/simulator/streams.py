"""Order-update streams without sockets: who listens to which account, and what goes wrong on the way.

A listener gets envelopes as values and raw text or bytes as they were pushed.  A `Break`
tells it to close, reset or stall its connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from copytrader.simulator.agenda import Agenda

Envelope = dict[str, Any]
Message = Envelope | str | bytes


@dataclass(frozen=True, slots=True)
class Break:
    """`kind` is "close" (with `code`), "reset" or "half_open" (no reading, no writing, no goodbye)."""

    kind: str = "close"
    code: int = 1000


@dataclass(slots=True)
class StreamFaults:
    """What happens to the frames of one account; a fresh one does nothing.

    `drop` loses so many frames (-1: all, the silent but living stream), `duplicate` sends each
    so many times more, `reorder` collects so many and sends them backwards, `delay` is in
    seconds, `withhold` keeps frames until they are released.
    """

    drop: int = 0
    duplicate: int = 0
    reorder: int = 0
    delay: float = 0.0
    withhold: bool = False
    held: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Listener:
    on_frame: Callable[[Envelope], None]
    on_raw: Callable[[str | bytes], None] | None
    on_break: Callable[[Break], None] | None


class Streams:
    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._listeners: dict[str, list[_Listener]] = {}
        self._faults: dict[str, StreamFaults] = {}
        self._refusals: list[int] = []

    def subscribe(
        self,
        client_id: str,
        on_frame: Callable[[Envelope], None],
        on_raw: Callable[[str | bytes], None] | None = None,
        on_break: Callable[[Break], None] | None = None,
    ) -> Callable[[], None]:
        """Listen to an account; call what is returned to stop."""
        listener = _Listener(on_frame, on_raw, on_break)
        listeners = self._listeners.setdefault(client_id, [])
        listeners.append(listener)

        def stop() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return stop

    def faults(self, client_id: str) -> StreamFaults:
        return self._faults.setdefault(client_id, StreamFaults())

    def listeners(self) -> dict[str, int]:
        return {client_id: len(listeners) for client_id, listeners in self._listeners.items() if listeners}

    def send(self, client_id: str, message: Message) -> None:
        faults = self.faults(client_id)
        if faults.drop:
            faults.drop -= 1 if faults.drop > 0 else 0
            return
        if faults.withhold or faults.reorder > 1:
            faults.held.append(message)
            if faults.withhold or len(faults.held) < faults.reorder:
                return
            self._release(client_id, list(reversed(faults.held)))
            return
        self._deliver(client_id, message)

    def release(self, client_id: str) -> None:
        """Send what was held back, in its order, and hold nothing back from now on."""
        faults = self.faults(client_id)
        faults.withhold, faults.reorder = False, 0
        self._release(client_id, list(faults.held))

    def break_off(self, client_id: str, how: Break) -> None:
        for listener in list(self._listeners.get(client_id, ())):
            if listener.on_break is not None:
                listener.on_break(how)

    def break_all(self, how: Break) -> None:
        for client_id in list(self._listeners):
            self.break_off(client_id, how)

    def refuse_handshakes(self, status: int, count: int = 1) -> None:
        self._refusals.extend([status] * count)

    def handshake(self) -> int:
        """The status to refuse the next connection with, 0 to let it in."""
        return self._refusals.pop(0) if self._refusals else 0

    def clear(self) -> None:
        self._faults.clear()
        self._refusals.clear()

    def _release(self, client_id: str, messages: list[Message]) -> None:
        self.faults(client_id).held.clear()
        for message in messages:
            self._deliver(client_id, message)

    def _deliver(self, client_id: str, message: Message) -> None:
        faults = self.faults(client_id)
        for _ in range(1 + faults.duplicate):
            self._agenda.later(faults.delay, partial(self._hand_over, client_id, message))

    def _hand_over(self, client_id: str, message: Message) -> None:
        for listener in list(self._listeners.get(client_id, ())):
            if isinstance(message, dict):
                listener.on_frame(message)
            elif listener.on_raw is not None:
                listener.on_raw(message)
            elif (envelope := envelope_of(message)) is not None:
                listener.on_frame(envelope)


def envelope_of(message: str | bytes) -> Envelope | None:
    """The envelope that a raw message is, None when it is none."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
