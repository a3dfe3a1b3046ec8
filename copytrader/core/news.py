"""What a fact touched, and the notes that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from copytrader.core.copies import Key
from copytrader.core.facts import Alert, Decision, Level
from copytrader.core.state import Holding, State

SAY_AGAIN = timedelta(minutes=15)
"""After so long what still lasts is said once more."""


class News:
    """What a fact touched, and the notes that follow from it."""

    __slots__ = ("notes", "touched")

    def __init__(self) -> None:
        self.touched: dict[tuple[Key, str], None] = {}
        self.notes: list[Decision] = []

    def touch(self, key: Key, follower: str) -> None:
        self.touched[key, follower] = None

    def holdings(self) -> Iterable[Key]:
        """Return each holding touched once, in order."""
        if len(self.touched) <= 1:
            return [key for key, _ in self.touched]
        return dict.fromkeys([key for key, _ in self.touched])

    def alert(self, level: Level, text: str, account: str | None = None, key: str = "") -> None:
        self.notes.append(Alert(level, text, account, key))


def lot_of(state: State, holding: Holding) -> int:
    instrument = state.instruments.get(holding.key.security)
    return instrument.lot_size if instrument is not None else 1
