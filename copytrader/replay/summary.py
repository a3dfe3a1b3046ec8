"""What a replay says in the end, as one document: `--json` prints it, tables and the report page show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from copytrader.core.model import LEADER
from copytrader.paper import FillModel
from copytrader.replay.frames import PassedOver
from copytrader.replay.play import Track
from copytrader.replay.proof import Verdict
from copytrader.replay.results import CHARGES, Words, compared
from copytrader.replay.rules import differences

TITLES = {"recorded": "recorded", "as_configured": "as configured", "what_if": "what if"}

ACCOUNTS = {
    "account": "account",
    "result": "result",
    "orders": "orders",
    "skips": "skips",
    "lots": "lots",
    "traded_value": "traded Rs",
    "largest_exposure": "exposure",
    "largest_margin": "margin",
    "realized": "result Rs",
}
"""The columns of the result table, and what stands above them."""
INSTRUMENTS = {
    "account": "account",
    "result": "result",
    "instrument": "instrument",
    "bought": "bought",
    "sold": "sold",
    "still_held": "held",
    "realized": "result Rs",
}


@dataclass(frozen=True, slots=True)
class Played:
    """A replay that is over."""

    source: str
    tracks: Sequence[Track]
    notes: Sequence[str]
    verdict: Verdict | None = None
    state: Words | None = None
    warnings: Sequence[str] = ()
    passed_over: Sequence[PassedOver] = ()

    def document(self) -> Words:
        first, other = self.tracks[0], self.tracks[1] if len(self.tracks) > 1 else None
        rows = list(
            compared(first.tally, None if other is None else other.tally, [track.name for track in self.tracks])
        )
        words: Words = {
            "source": self.source,
            "from": first.tally.first,
            "to": first.tally.last,
            "results": [_result(track) for track in self.tracks],
            "changed_rules": [] if other is None else differences(first.desk, other.desk),
            "orders": rows,
            "differing": None if other is None else sum(1 for row in rows if row["differs"]),
            "check": None if self.verdict is None else self.verdict.document(),
            "notes": [*self.warnings, *self.notes, CHARGES],
            "passed_over": list(self.passed_over),
        }
        return words if self.state is None else words | {"until": self.state}


def _result(track: Track) -> Words:
    return {
        "result": track.name,
        "model": None if track.model is None else _model(track.model),
        "events": track.tally.events,
        "decisions": track.tally.decisions,
        "accounts": track.tally.accounts(),
        "instruments": track.tally.instruments(),
    }


def _model(model: FillModel) -> Words:
    return {
        "fills": fills(model),
        "slippage_ticks": model.slippage_ticks,
        "reject_rate": model.reject_rate,
        "latency_ms": model.latency.total_seconds() * 1000,
        "seed": model.seed,
    }


def on_paper(model: FillModel) -> str:
    """Say in a sentence how orders are filled that nobody sent."""
    return f"filled on paper: a follower's order fills {fills(model)}"


def fills(model: FillModel) -> str:
    """Say how a follower's order fares by a model."""
    words = ["like the leader's", "at the leader's prices"]
    if ticks := model.slippage_ticks:
        words[1] = f"{ticks:,} tick{'s' if ticks > 1 else ''} worse than at the leader's prices"
    if model.reject_rate:
        words.append(f"{model.reject_rate * 100:g} % of the orders are refused by chance (seed {model.seed})")
    if model.latency:
        words.append(f"answers take {model.latency / timedelta(milliseconds=1):,g} ms and nothing fills before")
    return ", ".join(words)


# --- Rows for tables: flat, one result beside the other ------------------------------------


def account_rows(document: Mapping[str, object]) -> list[Words]:
    """Return a row for each account and result, an account's results under one another."""
    rows = [
        {"result": TITLES[str(result["result"])], **account, "skips": _counted(account["skips"])}
        for result in _list(document["results"])
        for account in _list(result["accounts"])
        if account["account"] != LEADER or result is _list(document["results"])[0]
    ]
    return sorted(rows, key=lambda row: (row["account"] != LEADER, str(row["account"])))


def instrument_rows(document: Mapping[str, object]) -> list[Words]:
    """Return a row for each account, instrument and result in which something was traded or held."""
    rows = [
        {"result": TITLES[str(result["result"])], **row}
        for result in _list(document["results"])
        for row in _list(result["instruments"])
        if row["account"] != LEADER or result is _list(document["results"])[0]
        if row["bought"] or row["sold"] or row["still_held"]
    ]
    return sorted(rows, key=lambda row: (row["account"] != LEADER, str(row["account"]), str(row["instrument"])))


def order_rows(document: Mapping[str, object], *, only_differing: bool = False) -> list[Words]:
    """Return the orders with each result's outcome in columns of its own."""
    names = [str(result["result"]) for result in _list(document["results"])]
    return [
        {key: value for key, value in row.items() if key not in names}
        | {f"{name}_{key}": value for name in names for key, value in _outcome(row[name]).items()}
        for row in _list(document["orders"])
        if not only_differing or row.get("differs")
    ]


def in_a_word(row: Mapping[str, object], name: str) -> str:
    """Say one outcome of an order in a table's cell."""
    quantity, filled = row[f"{name}_quantity"], row[f"{name}_filled_quantity"]
    if row[f"{name}_skipped"] and not filled:
        return f"{row[f'{name}_skipped']}"
    if not quantity:
        return "-"
    text = f"{filled} of {quantity}" if filled != quantity else f"{filled}"
    refused = f", {row[f'{name}_refused_quantity']} refused" if row[f"{name}_refused_quantity"] else ""
    return (f"{text} at {row[f'{name}_average_price']:f}" if filled else f"{text} unfilled") + refused


def _outcome(outcome: object) -> Words:
    if isinstance(outcome, Mapping):
        return dict(outcome)
    return {
        "quantity": None,
        "refused_quantity": None,
        "filled_quantity": None,
        "average_price": None,
        "skipped": None,
        "detail": "",
    }


def _counted(skips: object) -> str:
    assert isinstance(skips, Mapping)
    return ", ".join(f"{count} {reason}" for reason, count in skips.items())


def _list(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value
