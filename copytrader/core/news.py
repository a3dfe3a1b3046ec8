"""What a fact touched, and the notes that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from copytrader.core.facts import Alert, Decision, Level
from copytrader.core.state import Holding, Key, State


@dataclass(slots=True)
class News:
    """What a fact touched, and the notes that follow from it."""

    touched: dict[tuple[Key, str], None] = field(default_factory=dict)
    notes: list[Decision] = field(default_factory=list)

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
